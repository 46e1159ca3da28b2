"""Plays the scenes: asks, waits for what the upstream and demur recorded, verifies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import Self

from ... import wrap
from ...errors import DemurError
from ...sinks import to_record
from ...testing import Recorded, Upstream
from .asking import Heard, ask, connect
from .cast import SCRIPT, write_policies
from .gateway import KEY, Gateway
from .scenes import SCENES, Cut, Scene, Seen, verify

if TYPE_CHECKING:
    from openai import OpenAI

SETTLE_SECONDS: Final = 5.0
"""Longest wait for what is recorded after a response was delivered."""

_OFF: Final = {"extra_body": {"metadata": {"demur": "off"}}}
"""A proxied request that demur leaves alone."""


class SceneError(DemurError):
    """A request of the demo failed."""


class Performance:
    """The upstream, the proxy if wanted, and the clients, for the length of a ``with`` block.

    The proxy boots from the start; scenes that need it wait for it.
    """

    def __init__(self, *, with_proxy: bool) -> None:
        self._with_proxy = with_proxy
        self._stack = ExitStack()
        self.gateway: Gateway | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="demur-demo-")))
            policy, audited, self._audit = write_policies(folder)
            self._upstream = stack.enter_context(Upstream(SCRIPT))
            if self._with_proxy:
                gateway = Gateway(folder, SCRIPT, self._upstream.base_url, audited)
                self.gateway = stack.enter_context(gateway)
            self._plain = stack.enter_context(connect(self._upstream.base_url))
            self._wrapped = wrap(self._plain, policy=policy)
            if self.gateway is not None:
                base_url = f"{self.gateway.origin}/v1"
                self._proxied = stack.enter_context(connect(base_url, KEY))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)

    @property
    def doing(self) -> str:
        """What is waited for."""
        booting = self.gateway is not None and not self.gateway.boot_seconds
        return "asking; meanwhile the proxy boots ..." if booting else "asking ..."

    def scenes(self) -> Iterator[Seen]:
        """Raises ``GatewayError`` where the proxy does not start, ``SceneError`` where a request
        fails."""
        _warm_up(self._plain, self._wrapped)
        for scene in SCENES:
            if scene.via == "client":
                yield self._in_client(scene)
        if self.gateway is None:
            return
        self.gateway.wait_until_up()
        _warm_up(self._proxied)
        for scene in SCENES:
            if scene.via == "proxy":
                yield self._in_proxy(scene)

    def _in_client(self, scene: Scene) -> Seen:
        without, whole = self._ask(self._plain, scene)
        demur, first = self._ask(self._wrapped, scene)
        record = {} if demur.outcome is None else to_record(demur.outcome)
        return _verified(Seen(scene, without, demur, record, _cut(scene, whole, first)))

    def _in_proxy(self, scene: Scene) -> Seen:
        without, whole = self._ask(self._proxied, scene, **_OFF)
        before = len(self._records())
        demur, first = self._ask(self._proxied, scene)
        record = self._next_record(before)
        return _verified(Seen(scene, without, demur, record, _cut(scene, whole, first)))

    def _ask(self, client: OpenAI, scene: Scene, **more: Any) -> tuple[Heard, Recorded]:
        """What the caller got, and the upstream's record of its first request."""
        before = len(self._upstream.calls(scene.model))
        heard = _asked(client, scene, **more)
        first = self._upstream.calls(scene.model)[before]
        first.finished.wait(SETTLE_SECONDS)
        return heard, first

    def _next_record(self, before: int) -> Mapping[str, Any]:
        """The proxy's audit record after the first ``before``; empty if none comes."""
        end = time.monotonic() + SETTLE_SECONDS
        while len(records := self._records()) <= before and time.monotonic() < end:
            time.sleep(0.02)
        return records[before] if len(records) > before else {}

    def _records(self) -> list[dict[str, Any]]:
        try:
            lines = self._audit.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _asked(client: OpenAI, scene: Scene, **more: Any) -> Heard:
    import openai

    try:
        return ask(client, scene.model, stream=scene.stream, **more)
    except openai.OpenAIError as error:
        raise SceneError(f"{scene.name}: {type(error).__name__}: {error}") from error


def _warm_up(*clients: OpenAI) -> None:
    """So that no scene's times hold a first connection or a module's import."""
    warm = replace(SCENES[0], name="warm-up", model="helpful")
    for client in clients:
        for stream in (False, True):
            _asked(client, replace(warm, stream=stream))


def _cut(scene: Scene, whole: Recorded, first: Recorded) -> Cut | None:
    if not scene.stream or scene.ending == "accepted":
        return None
    return Cut(first.cut, first.chunks_sent, whole.chunks_sent)


def _verified(seen: Seen) -> Seen:
    return replace(seen, checks=verify(seen))

"""LiteLLM's ``completion`` and ``acompletion`` with a policy, where hooks do not reach.

LiteLLM calls no hook for the streams of its SDK, and none for blocking calls. Whoever calls through
``Models`` gets both, decided by the flows that everything else uses.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from itertools import count
from typing import Any

import anyio
import litellm
from litellm.litellm_core_utils.thread_pool_executor import executor
from typing_extensions import Self

from ...attachment import attach
from ...detection import Detector
from ...drivers import awaiting, blocking
from ...drivers.timed import call_within, shortened
from ...flow.completion import completion_flow
from ...flow.plan import Plan
from ...flow.stream import stream_flow
from ...sinks import Sink
from ...vocabulary import Attempt, Chunk, Completion, Outcome, Target
from . import calling, sdk
from .background import Background
from .requests import choices_of, matchable, opted_out
from .rows import Row, counted, keep_stream_out_of_the_log
from .settings import Source, policy_of
from .setup import Setup, setups_of
from .spend import tags_of_verdict
from .starting import conversation_of
from .state import priced
from .surfaces import CHAT, ItemReader, read_completion

_background = Background()
_log = logging.getLogger("demur")


class Models:
    """Calls models as ``litellm`` does, or as ``router`` does, and falls back as the policy says.

    A whole response is LiteLLM's own object; a stream gives LiteLLM's own chunks.
    ``demur.outcome_of`` tells of either. ``policy``, ``detector`` and ``sinks`` are those of
    ``DemurGuardrail``. Raises ``RefusedError`` where the policy wants that, else
    what the first call raises.
    """

    def __init__(
        self,
        policy: Source | None = None,
        *,
        detector: Detector | None = None,
        router: Any = None,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._setups = setups_of(policy_of(policy, None), detector, _tell_what_is_ignored, sinks)
        self._api = litellm if router is None else router
        self._routed = router is not None

    def completion(self, model: str, messages: Any, **more: Any) -> Any:
        """``litellm.completion``, with its arguments."""
        request = {"model": model, "messages": messages, **more}
        call = partial(_as_ours, self._api.completion)
        setup = self._setups.current
        plan = _plan(setup, request)
        if plan is None:
            return call(**request)
        port = _Blocking(call, request, plan, setup, routed=self._routed)
        if request.get("stream"):
            chunks = blocking.BlockingStream(stream_flow(plan), port, setup.detector, setup.store)
            return Stream(chunks)
        flow = completion_flow(plan)
        served = blocking.run_completion(flow, port, setup.detector, setup.store)
        return _with_outcome(served.completion.native, served.outcome)

    async def acompletion(self, model: str, messages: Any, **more: Any) -> Any:
        """``litellm.acompletion``, with its arguments."""
        request = {"model": model, "messages": messages, **more}
        call = partial(_awaited_as_ours, self._api.acompletion)
        setup = self._setups.current
        plan = _plan(setup, request)
        if plan is None:
            return await call(**request)
        port = _Awaiting(call, request, plan, setup, routed=self._routed)
        if request.get("stream"):
            chunks = awaiting.AwaitingStream(stream_flow(plan), port, setup.detector, setup.store)
            return await AsyncStream.opened(chunks)
        flow = completion_flow(plan)
        served = await awaiting.run_completion(flow, port, setup.detector, setup.store)
        return _with_outcome(served.completion.native, served.outcome)


class Stream:
    """The chunks of whichever model answers. Closing it cuts the connection, as dropping it does.

    It has been opened, and held for as long as that takes, once it is made.
    """

    def __init__(self, chunks: blocking.BlockingStream) -> None:
        self._chunks = chunks
        self._items = _released(chunks)
        next(self._items)
        attach(self, lambda: chunks.outcome)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream:
    """``Stream`` for asynchronous code, made by ``opened``."""

    def __init__(self, chunks: awaiting.AwaitingStream) -> None:
        self._chunks = chunks
        self._items = _released_later(chunks)
        attach(self, lambda: chunks.outcome)

    @classmethod
    async def opened(cls, chunks: awaiting.AwaitingStream) -> Self:
        stream = cls(chunks)
        await stream.__anext__()
        return stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._items.__anext__()

    async def aclose(self) -> None:
        await self._chunks.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _released(chunks: blocking.BlockingStream) -> Iterator[Any]:
    """``None`` once the stream is open, then its items.

    A generator that has begun is closed with whatever drops it, wherever that is.
    """
    try:
        released = chunks.advance()
        yield None
        while released is not None:
            yield from (chunk.native for chunk in released)
            released = chunks.advance()
    finally:
        chunks.close()


async def _released_later(chunks: awaiting.AwaitingStream) -> AsyncIterator[Any]:
    try:
        released = await chunks.advance()
        yield None
        while released is not None:
            for chunk in released:
                yield chunk.native
            released = await chunks.advance()
    finally:
        await chunks.close()


@dataclass(slots=True, eq=False)
class _Opened:
    """One stream. ``place`` is its attempt's in the outcome, ``text`` what it has said while nobody
    got any of it, last at ``read_at``. Nobody wants more of one that is ``left``."""

    native: Any
    place: int
    items: Any
    reader: ItemReader
    text: str = ""
    ended: bool = False
    left: bool = False
    read_at: datetime | None = None

    @property
    def logging_obj(self) -> Any:
        return getattr(self.native, "logging_obj", None)


class _Port:
    """What both ports share."""

    def __init__(
        self, call: Any, request: Mapping[str, Any], plan: Plan, setup: Setup, *, routed: bool
    ) -> None:
        self._call = call
        self._routed = routed
        self._request = request
        self._plan = plan
        self._setup = setup
        self._record: Outcome | None = None
        self._places = count()
        self._dropped: list[_Opened] = []

    def emit(self, record: Outcome) -> None:
        self._record = record
        dropped, self._dropped = self._dropped, []
        for stream in dropped:
            self._log(stream, record.attempts[stream.place])
        if self._plan.logs(record):
            self._setup.sinks(record)

    def _read(self, stream: _Opened, item: Any) -> Chunk:
        chunk = stream.reader.read(item)
        if self._record is None:
            stream.read_at = datetime.now()
            stream.text += "".join(delta.text + delta.refusal for delta in chunk.deltas)
        return chunk

    def _drop(self, stream: _Opened) -> None:
        """Nobody gets a stream that is closed before one is served: LiteLLM does not log it."""
        if self._record is None and not stream.ended and stream.logging_obj is not None:
            keep_stream_out_of_the_log(stream.logging_obj)
            self._dropped.append(stream)

    def _log(self, stream: _Opened, attempt: Attempt) -> None:
        row = Row(stream.logging_obj, None, end=stream.read_at)
        if attempt.verdict is not None and self._plan.tags:
            row.mark({"tags": list(tags_of_verdict(attempt.verdict))})
        self._write(row, counted(self._request, row.model, stream.text, attempt.usage))

    def _write(self, row: Row, response: Callable[[], Any]) -> None:
        raise NotImplementedError

    def _asked(self, target: Target, attempt: int) -> Mapping[str, Any]:
        if attempt == 0:
            return self._request
        return sdk.fallback_request(self._request, target, routed=self._routed)


class _Blocking(_Port):
    def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return targets

    def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        asked = self._asked(target, attempt)
        if timeout is not None:
            # So that the call ends too, once it is not waited for any more.
            asked = {**asked, "timeout": shortened(_timeout_of(asked), timeout)}
        return read_completion(CHAT, self._called(asked, timeout, lambda _: None))

    def open(self, target: Target, attempt: int, timeout: float | None) -> _Opened:
        place = next(self._places)
        # What is released may pause for as long as without demur: the transport has no limit.
        native = self._called(self._asked(target, attempt), timeout, _cut)
        return _Opened(native, place, iter(native), ItemReader(CHAT))

    def read(self, stream: _Opened) -> Chunk | None:
        for item in stream.items:
            if stream.left:
                _cut(stream.native)
            return self._read(stream, item)
        stream.ended = True
        return None

    def close(self, stream: _Opened) -> None:
        self._drop(stream)
        stream.left = True
        # A Router's stream is a generator. Where another thread waits in it, that one cuts it.
        with suppress(ValueError):
            _cut(stream.native)

    def _write(self, row: Row, response: Callable[[], Any]) -> None:
        executor.submit(row.write_blocking, response)

    def _called(
        self, asked: Mapping[str, Any], timeout: float | None, drop: Callable[[Any], None]
    ) -> Any:
        call = partial(self._call, **asked)
        return call() if timeout is None else call_within(timeout, call, drop)


class _Awaiting(_Port):
    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return targets

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        return read_completion(CHAT, await self._called(target, attempt, timeout))

    async def open(self, target: Target, attempt: int, timeout: float | None) -> _Opened:
        place = next(self._places)
        native = await self._called(target, attempt, timeout)
        return _Opened(native, place, aiter(native), ItemReader(CHAT))

    async def read(self, stream: _Opened) -> Chunk | None:
        async for item in stream.items:
            return self._read(stream, item)
        stream.ended = True
        return None

    async def close(self, stream: _Opened) -> None:
        self._drop(stream)
        aclose = getattr(stream.native, "aclose", None)
        if aclose is not None:
            await aclose()

    def _write(self, row: Row, response: Callable[[], Any]) -> None:
        _background.run(row.write_counted(response))

    async def _called(self, target: Target, attempt: int, timeout: float | None) -> Any:
        with anyio.fail_after(timeout):
            return await self._call(**self._asked(target, attempt))


def _tell_what_is_ignored(setup: Setup) -> None:
    for rule in setup.policy.rules:
        if rule.retry is not None and rule.retry.provider_errors:
            _log.warning("demur: rule %r: provider_errors has no effect on Models", rule.name)


def _plan(setup: Setup, request: Mapping[str, Any]) -> Plan | None:
    if opted_out(request):
        return None
    plan = Plan.of(
        setup.policy,
        api="chat",
        model=str(request["model"]),
        stream=bool(request.get("stream")),
        metadata=matchable(request),
        choices=choices_of(request),
        conversation=conversation_of(request),
    )
    return None if plan is None else priced(plan)


def _timeout_of(asked: Mapping[str, Any]) -> Any:
    """The caller's own, in any of LiteLLM's forms."""
    found = asked.get("timeout", asked.get("request_timeout"))
    return float(found) if isinstance(found, str) else found


def _cut(native: Any) -> None:
    """Close a blocking stream's upstream connection."""
    inner = getattr(native, "completion_stream", None)
    if isgenerator(inner) and getgeneratorstate(inner) == GEN_CREATED:
        # A Router's stream, which closes nothing unless it was read from. It has read ahead itself.
        with suppress(Exception):
            next(native)
    # Where LiteLLM makes chat of a Responses stream, what it reads closes nothing itself.
    translated = getattr(getattr(inner, "streaming_response", None), "response", None)
    for holder in (translated, inner, getattr(inner, "response", None), native):
        close = getattr(holder, "close", None)
        if close is not None:
            close()
            return


def _with_outcome(native: Any, outcome: Outcome) -> Any:
    attach(native, lambda: outcome)
    return native


def _as_ours(call: Any, **request: Any) -> Any:
    """A call that a guardrail in ``litellm.callbacks`` leaves alone."""
    with calling.calling_ourselves():
        return call(**request)


async def _awaited_as_ours(call: Any, **request: Any) -> Any:
    with calling.calling_ourselves():
        return await call(**request)

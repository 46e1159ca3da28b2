"""``demur demo``: real requests to scripted models, without demur and with it, side by side."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console

from .gateway import GatewayError, missing
from .page import Page
from .performance import Performance, SceneError
from .report import to_json
from .scenes import Seen


@click.command("demo")
@click.option("--no-proxy", is_flag=True, help="Leave out the LiteLLM proxy, which takes longest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the show.")
@click.pass_context
def demo(ctx: click.Context, no_proxy: bool, as_json: bool) -> None:
    """See demur at work on this machine: no key, no network, about 15 seconds.

    Asks scripted models through an OpenAI client and a LiteLLM proxy, without demur and with it.

    Exit codes: 0 when each caller got what it should have got; 1 when one did not, or the proxy did
    not start; 2 when something is not installed.
    """
    since = time.monotonic()
    left_out = "--no-proxy" if no_proxy else missing()
    page = Page(Console(stderr=as_json, quiet=as_json))
    seen: list[Seen] = []
    with _ending_on_signals(), Performance(with_proxy=left_out is None) as performance:
        page.opening()
        try:
            for scene in _watched(performance, as_json=as_json):
                seen.append(scene)
                page.scene(scene)
        except (GatewayError, SceneError) as error:
            log = performance.gateway.log() if performance.gateway else ""
            Page(Console(stderr=True)).failure(str(error), log)
            ctx.exit(1)
        boot = performance.gateway.boot_seconds if performance.gateway else None
    seconds = time.monotonic() - since
    if as_json:
        told = to_json(seen, seconds=seconds, boot_seconds=boot, left_out=left_out)
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if left_out is not None:
        page.note(f"Without the proxy: {left_out}")
    if not all(scene.holds for scene in seen):
        Page(Console(stderr=True)).failure("Not all went as it should have: see what is marked.")
        ctx.exit(1)
    page.closing(seen, seconds)


def _watched(performance: Performance, *, as_json: bool) -> Iterator[Seen]:
    """The scenes, with a sign of life on a terminal while one is awaited."""
    console = Console(stderr=True, quiet=as_json)
    scenes = performance.scenes()
    while True:
        with console.status(performance.doing):
            scene = next(scenes, None)
        if scene is None:
            return
        yield scene


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """A termination, too, leaves nothing running."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in known}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

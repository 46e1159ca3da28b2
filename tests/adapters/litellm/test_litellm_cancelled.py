"""Cancelling whoever waits for a fallback's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("litellm")

from test_litellm_parts import FirstStream, answer, exchange_for, plan_of

from demur.adapters.litellm.calling import CallingPort
from demur.adapters.litellm.models import _Awaiting
from demur.adapters.litellm.stream import StreamPort
from demur.adapters.litellm.surfaces import surface_for

PLAN = plan_of("second")
ASK = {"model": "primary", "messages": []}
Make = Callable[..., Awaitable[Any]]


async def whole(make: Make, timeout: float) -> Any:
    port = CallingPort(exchange_for(PLAN), answer("I can't."), ASK, make)
    await port.call(PLAN.requested, 0, None)
    return await port.call(PLAN.chain[0], 1, timeout)


async def streamed(make: Make, timeout: float) -> Any:
    exchange = exchange_for(PLAN, stream=True)
    exchange.surface = surface_for("anthropic_messages")  # type: ignore[assignment]
    router = SimpleNamespace(aanthropic_messages=make)
    port = StreamPort(exchange, FirstStream(), ASK, router)
    await port.open(PLAN.requested, 0, None)
    return await port.open(PLAN.chain[0], 1, timeout)


async def modelled(make: Make, timeout: float) -> Any:
    port: Any = _Awaiting(make, ASK, PLAN, None, routed=False)  # type: ignore[arg-type]
    return await port.call(PLAN.chain[0], 1, timeout)


WAYS = pytest.mark.parametrize("way", [whole, streamed, modelled])


@WAYS
@pytest.mark.parametrize("turns", range(5))
async def test_no_cancellation_is_lost(way: Any, turns: int, is_cancelled_after: Any) -> None:
    """Also one that comes just as the answer does: what was given up is not gone on with."""
    arriving: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def make(*_: Any, **__: Any) -> Any:
        return await arriving

    waiting = asyncio.create_task(way(make, 30))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    arriving.set_result(FirstStream() if way is streamed else answer("Sure."))
    await is_cancelled_after(waiting, turns)


@WAYS
async def test_a_fallback_is_not_waited_for_longer(way: Any) -> None:
    """Than it may take; its call is ended."""
    ended = asyncio.Event()

    async def make(*_: Any, **__: Any) -> Any:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await way(make, 0.01)
    assert ended.is_set()

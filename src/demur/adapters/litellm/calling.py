"""Whole responses whose fallbacks demur calls itself, as no Router can be made to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any, Final

import anyio

from ...drivers.awaiting import run_completion
from ...flow.completion import Served, completion_flow
from ...vocabulary import Chunk, Completion, Outcome, Target
from .exchange import Exchange
from .rows import Row, keep_out_of_the_log
from .surfaces import read_completion

inside: Final[ContextVar[bool]] = ContextVar("demur_calling", default=False)
"""Set while demur makes a call: its own fallbacks are not judged once more by the hook."""

_calls: Final[ContextVar[dict[int, Row] | None]] = ContextVar("demur_calls", default=None)
"""The rows of calls demur has made, by their logging objects."""


class CallingPort:
    """The awaiting driver's way to the models of one request, ``first`` being the response at hand.

    ``make`` calls a fallback. ``rows`` are what LiteLLM is kept from logging, by the attempt's
    place in the outcome.
    """

    def __init__(
        self,
        exchange: Exchange,
        first: Any,
        request: Mapping[str, Any],
        make: Callable[[Target], Awaitable[Any]],
    ) -> None:
        self.exchange = exchange
        self.rows: dict[int, Row] = {}
        self._first = first
        self._request = request
        self._make = make
        self.start_from(0)

    def start_from(self, place: int) -> None:
        """Note the place of the response at hand in the outcome."""
        self._at_hand = place
        self._places = count(place)

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return await self.exchange.usable(targets)

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        place = next(self._places)
        self.exchange.forget()
        if place == self._at_hand:
            logging_obj = self._request.get("litellm_logging_obj")
            return read_completion(self.exchange.surface, self._first, logging_obj)
        calls: dict[int, Row] = {}
        token = _calls.set(calls)
        try:
            with anyio.fail_after(timeout):
                native = await self._make(target)
        finally:
            _calls.reset(token)
            self.rows.update((place, row) for row in calls.values())
        return read_completion(self.exchange.surface, native)

    async def open(self, target: Target, attempt: int, timeout: float | None) -> Any:
        raise NotImplementedError("whole responses only")

    async def read(self, stream: Any) -> Chunk | None:
        raise NotImplementedError

    async def close(self, stream: Any) -> None:
        raise NotImplementedError

    def emit(self, record: Outcome) -> None:
        self.exchange.emit(record)


@contextmanager
def calling_ourselves() -> Iterator[None]:
    """Calls made in here are demur's own."""
    token = inside.set(True)
    try:
        yield
    finally:
        inside.reset(token)


async def serve(port: CallingPort) -> Served:
    """Run the request's flow from the response at hand on."""
    exchange = port.exchange
    with calling_ourselves():
        flow = completion_flow(exchange.plan, exchange.start)
        return await run_completion(flow, port, exchange.noting, exchange.store)


async def go_on(port: CallingPort, group: str | None) -> Served:
    """Run on from the response at hand, ``group``'s, the flow of a request that a Router made calls
    for."""
    with calling_ourselves():
        port.start_from(await port.exchange.come_to(group))
        return await port.exchange.finish(port)


def take_row(data: Mapping[str, Any], response: Any) -> None:
    """If demur has made this call, it is logged once its verdict is known."""
    calls, logging_obj = _calls.get(), data.get("litellm_logging_obj")
    if calls is not None and logging_obj is not None and id(logging_obj) not in calls:
        calls[id(logging_obj)] = Row(logging_obj, response)
        keep_out_of_the_log(logging_obj)

"""A proxied stream: the proxy has opened the first one, fallbacks are opened on its Router.

What comes out are LiteLLM's own items, untouched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from time import monotonic
from typing import Any

import anyio
from litellm.router_utils.fallback_event_handlers import (
    log_failure_fallback_event,
    log_success_fallback_event,
)

from ...detection import Detector
from ...drivers.awaiting import AwaitingStream
from ...errors import RefusedError
from ...flow.plan import Plan
from ...flow.stream import stream_flow
from ...vocabulary import Chunk, Completion, Outcome, Target
from .background import Background
from .chain import AttemptRefusedError, stand_in
from .exchange import KEY, Exchange, NotReachedError
from .headers import shown_group, shown_hops
from .marks import RECORDS
from .parking import KEY as PARKING
from .parking import Parking, is_parked
from .rows import keep_stream_out_of_the_log
from .spend import bucket_name, metadata_of
from .stream_usage import STRIP, with_usage
from .surfaces import CHAT, ItemReader, Surface, opening

TURN_SECONDS = 0.005
"""For how long a stream may keep the event loop to itself."""

_log = logging.getLogger("demur")
_telling = Background()

_OF_THE_FIRST_CALL = frozenset(
    {"litellm_call_id", "litellm_logging_obj", "deployment", "content_policy_fallbacks"}
)
"""Fields of a request that belong to the call the proxy has made, not to a fallback's."""


@dataclass(slots=True, eq=False)
class Source:
    """One opened stream. ``attempt`` is its place in the outcome.

    ``unreleased`` are the items read from it that nobody has got yet. ``logging_obj`` is LiteLLM's,
    ``parking`` holds back what it logs of a fallback. It logs no stream that is ``claimed``.
    ``read_at`` is when something was last read: who is held does not answer any more.
    """

    native: Any
    attempt: int
    logging_obj: Any
    parking: Parking
    items: AsyncIterator[Any]
    reader: ItemReader
    unreleased: list[Any] = field(default_factory=list)
    ended: bool = False
    failed: bool = False
    claimed: bool = False
    read_at: datetime | None = None

    def held_text(self, surface: Surface) -> str:
        """The text of what nobody has got."""
        again = ItemReader(surface)
        deltas = (delta for item in self.unreleased for delta in again.read(item).deltas)
        return "".join(delta.text + delta.refusal for delta in deltas)


class StreamPort:
    """The awaiting driver's way to one streamed request's models."""

    def __init__(
        self, exchange: Exchange, first: Any, request: Mapping[str, Any], router: Any
    ) -> None:
        self.exchange = exchange
        self._first = first
        self._request = request
        self._router = router
        self.opened: list[Source] = []
        self._places = count()
        self.served: Source | None = None
        self.failure: Exception | None = None
        self._ran_from = monotonic()

    @property
    def first(self) -> Source | None:
        """The stream the proxy has opened, once the flow has asked for it."""
        return self.opened[0] if self.opened else None

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return await self.exchange.usable(targets)

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        raise NotImplementedError("a stream has no whole responses")

    async def open(self, target: Target, attempt: int, timeout: float | None) -> Source:
        place = next(self._places)
        if self.first is None:
            if attempt > 0 and self._is_anothers(target):
                raise NotReachedError
            return self._source(self._first, place, self._request.get("litellm_logging_obj"))
        parking = Parking()
        request = fallback_request(self._request, target, parking)
        if self.exchange.surface is CHAT:
            request = with_usage(request, self._router)
        native = await call_fallback(self.exchange, self._router, request, timeout)
        logging_obj = parking.logging_obj or getattr(native, "logging_obj", None)
        return self._source(native, place, logging_obj, parking)

    def note_stand_in(self) -> None:
        """Note whose stream is at hand, where the Router has fallen back before it began."""
        group, hops = shown_group(self._first), shown_hops(self._first)
        self.exchange.replace_first(stand_in(self.exchange.plan, group, hops))

    def _is_anothers(self, target: Target) -> bool:
        """Whether the stream at hand is not ``target``'s, where that erred before it began."""
        group = shown_group(self._first)
        return group != target.model and group in self.exchange.plan.models

    async def read(self, stream: Source) -> Chunk | None:
        await self._give_way()
        try:
            item = await stream.items.__anext__()
        except StopAsyncIteration:
            stream.ended = True
            return None
        except Exception as error:
            self.failure = error
            stream.failed = True
            raise
        stream.read_at = datetime.now()
        stream.unreleased.append(item)
        return stream.reader.read(item)

    async def _give_way(self) -> None:
        """Let other requests run: a stream that is always ready would never do so itself."""
        if monotonic() - self._ran_from >= TURN_SECONDS:
            await asyncio.sleep(0)
            self._ran_from = monotonic()

    async def close(self, stream: Source) -> None:
        if stream.ended:
            return
        logs_itself = stream.failed or is_parked(stream.logging_obj)
        if stream is not self.served and not logs_itself:
            keep_stream_out_of_the_log(stream.logging_obj)
            stream.claimed = True
        await _cut(stream.native)

    def emit(self, record: Outcome) -> None:
        self.exchange.emit(record)

    def _source(
        self, native: Any, attempt: int, logging_obj: Any, parking: Parking | None = None
    ) -> Source:
        source = Source(
            native,
            attempt,
            logging_obj,
            parking or Parking(),
            native.__aiter__(),
            ItemReader(self.exchange.surface),
        )
        self.opened.append(source)
        return source


async def call_fallback(
    exchange: Exchange, router: Any, request: dict[str, Any], timeout: float | None = None
) -> Any:
    """What the Router answers, by its public method for the surface.

    Its callbacks are told of fallbacks that it chooses itself: of this one they are told here.
    """
    asked = exchange.plan.requested.model
    refused = AttemptRefusedError(asked)
    try:
        with anyio.fail_after(timeout):
            native = await getattr(router, exchange.surface.router_call)(**request)
    except Exception:
        _telling.run(log_failure_fallback_event(asked, request, refused))
        raise
    _telling.run(log_success_fallback_event(asked, request, refused))
    return native


def fallback_request(
    request: Mapping[str, Any], target: Target, parking: Parking | None = None
) -> dict[str, Any]:
    """The original request, patched for ``target``, with the caller's identity.

    Who answers where ``target`` errs is the policy's to say, and not the Router's. The reservation
    made against the caller's budget belongs to the first call alone.
    """
    from litellm.litellm_core_utils.internal_call_metadata import without_budget_reservation

    fresh: dict[str, Any] = {
        name: value
        for name, value in request.items()
        if name not in _OF_THE_FIRST_CALL and (name == STRIP or not name.startswith("_"))
    }
    metadata = {k: v for k, v in metadata_of(request).items() if k != KEY}
    fresh[bucket_name(request)] = {
        **without_budget_reservation(metadata),
        "tags": list(metadata.get("tags") or ()),
        RECORDS: [],
        **({} if parking is None else {PARKING: parking}),
    }
    return {**fresh, **target.patch, "model": target.model, "disable_fallbacks": True}


async def relay(
    plan: Plan,
    port: StreamPort,
    detector: Detector,
    released: Callable[[Source, Any, Outcome], None],
) -> AsyncGenerator[Any, None]:
    """The items the caller gets. ``released`` is told which stream they are of, which comes first,
    and the outcome so far.

    If demur itself fails, what was held of the first stream and the rest of it are passed on.
    """
    port.note_stand_in()
    flow = stream_flow(plan, port.exchange.start)
    stream = AwaitingStream(flow, port, detector, port.exchange.store)
    try:
        while True:
            try:
                chunks = await stream.advance()
                if chunks and port.served is None and stream.outcome is not None:
                    port.served = stream.served
                    released(stream.served, chunks[0].native, stream.outcome)
            except RefusedError as error:
                for item in opening(port.first.unreleased if port.first else ()):
                    yield item
                raise AttemptRefusedError(plan.requested.model, str(error)) from None
            except Exception as error:
                if error is port.failure or not _can_rescue(stream, port):
                    raise
                _log.warning("demur: a stream is passed on unjudged: %s", type(error).__name__)
                break
            if chunks is None:
                return
            for item in _taken(stream.served, chunks):
                yield item
        async for item in _rest(port.first):
            yield item
    finally:
        await stream.close()


async def _cut(native: Any) -> None:
    """Close the upstream connection.

    LiteLLM's Responses iterators do not pass a close on to the HTTP response, or the chat stream,
    that they read.
    """
    inner = getattr(native, "_billing_source", native)
    for holder in (
        native,
        getattr(native, "response", None),
        getattr(inner, "litellm_custom_stream_wrapper", None),
    ):
        aclose = getattr(holder, "aclose", None)
        if aclose is not None:
            await aclose()


def _taken(source: Source, chunks: Sequence[Chunk]) -> list[Any]:
    items = [chunk.native for chunk in chunks]
    del source.unreleased[: len(items)]
    return items


def _can_rescue(stream: AwaitingStream, port: StreamPort) -> bool:
    return port.first is not None and stream.served in (None, port.first)


async def _rest(source: Source | None) -> AsyncIterator[Any]:
    assert source is not None
    for item in source.unreleased:
        yield item
    async for item in source.items:
        yield item

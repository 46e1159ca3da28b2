"""A byte stream put in the place of a response's own: what was held, then the rest.

httpx and httpx2 insist that a response's stream is of their own base class, and the SDK may use
either, so the classes here are made for the family of the stream they replace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any, Protocol

from ...vocabulary import Chunk


class BlockingSource(Protocol):
    def advance(self) -> tuple[Chunk, ...] | None: ...

    def close(self) -> None: ...


class AwaitingSource(Protocol):
    async def advance(self) -> tuple[Chunk, ...] | None: ...

    async def close(self) -> None: ...


class _InPlace:
    """Stands where ``original`` stood, and is asked what that was asked."""

    def __init__(self, original: Any) -> None:
        self._original = original

    @property
    def elapsed(self) -> Any:
        # httpx2's responses have it from their stream; httpx's are told by theirs.
        return getattr(self._original, "elapsed", None)


class _Replay(_InPlace):
    """Chunks already released, then what the source releases.

    Iterating again goes on where the last iteration stopped: openai 3.x drains a stream so.
    ``closed`` is called once the source is closed, and may raise.
    """

    def __init__(
        self,
        original: Any,
        source: BlockingSource,
        held: tuple[Chunk, ...],
        closed: Callable[[], None],
    ) -> None:
        super().__init__(original)
        self._source = source
        self._ready = deque(held)
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._ready:
            released = self._source.advance()
            if released is None:
                raise StopIteration
            self._ready.extend(released)
        raw: bytes = self._ready.popleft().native
        return raw

    def close(self) -> None:
        self._ready.clear()
        self._source.close()
        self._closed()


class _AsyncReplay(_InPlace):
    """``_Replay`` for asynchronous responses."""

    def __init__(
        self,
        original: Any,
        source: AwaitingSource,
        held: tuple[Chunk, ...],
        closed: Callable[[], None],
    ) -> None:
        super().__init__(original)
        self._source = source
        self._ready = deque(held)
        self._closed = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            released = await self._source.advance()
            if released is None:
                raise StopAsyncIteration
            self._ready.extend(released)
        raw: bytes = self._ready.popleft().native
        return raw

    async def aclose(self) -> None:
        self._ready.clear()
        await self._source.close()
        self._closed()


class Whole:
    """A body read to its end before it was handed over, with the error that ended it, if any."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._given = False
        self.error: Exception | None = None

    def add(self, part: bytes) -> None:
        self._parts.append(part)

    @property
    def raw(self) -> bytes:
        return b"".join(self._parts)

    def advance(self) -> tuple[Chunk, ...] | None:
        if not self._given:
            self._given = True
            return tuple(Chunk(part) for part in self._parts)
        if self.error is not None:
            raise self.error
        return None

    def close(self) -> None:
        self._given = True

    def awaiting(self) -> AwaitingSource:
        return _Awaited(self)


class _Awaited:
    """A source that never waits, for an asynchronous response."""

    def __init__(self, source: BlockingSource) -> None:
        self._source = source

    async def advance(self) -> tuple[Chunk, ...] | None:
        return self._source.advance()

    async def close(self) -> None:
        self._source.close()


def _nothing() -> None:
    """Closing went well."""


def replay(
    original: Any,
    source: BlockingSource,
    held: tuple[Chunk, ...],
    closed: Callable[[], None] = _nothing,
) -> Any:
    """A stream of ``original``'s family that gives ``held`` and then what ``source`` releases."""
    family = _family(type(original), "SyncByteStream")
    return _joined(_Replay, family)(original, source, held, closed)


def async_replay(
    original: Any,
    source: AwaitingSource,
    held: tuple[Chunk, ...],
    closed: Callable[[], None] = _nothing,
) -> Any:
    family = _family(type(original), "AsyncByteStream")
    return _joined(_AsyncReplay, family)(original, source, held, closed)


def _family(stream_class: type, base_name: str) -> Any:
    return next(c for c in stream_class.__mro__ if c.__name__ == base_name)


@cache
def _joined(replay_class: Any, family: Any) -> Any:
    return type(replay_class.__name__.lstrip("_"), (replay_class, family), {})

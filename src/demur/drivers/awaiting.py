"""The driver for asynchronous code: ``blocking`` with ``await`` in it."""

from __future__ import annotations

import _thread
import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..detection import Detector
from ..detection.awaiting import classify_off_loop
from ..flow.effects import (
    Answer,
    Called,
    CallModel,
    Classify,
    CloseStream,
    Consult,
    ConsumerLeft,
    Effect,
    Emit,
    FindUsable,
    Judged,
    NextChunk,
    Opened,
    OpenStream,
    Release,
    Usable,
)
from ..stores import NoStore, Store
from ..vocabulary import Chunk, Completion, Evidence, Outcome, Target, Verdict
from .answers import arrival, failed, leftovers, timed
from .timed import NOT_YET, NotYet

T = TypeVar("T")

_TURNS = 5
"""Of a loop, in which tasks that it has been given begin."""


class Port(Protocol):
    """One request's way to its models. Exceptions it raises become ``Failed`` answers."""

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]: ...

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion: ...

    async def open(self, target: Target, attempt: int, timeout: float | None) -> Any: ...

    async def read(self, stream: Any) -> Chunk | None:
        """The next chunk, ``None`` at the end."""
        ...

    async def close(self, stream: Any) -> None: ...

    def emit(self, record: Outcome) -> None:
        """Every record of the request; the last one is ``finished``."""
        ...


async def run_completion(
    flow: Generator[Effect, Answer, T],
    port: Port,
    detector: Detector,
    store: Store | None = None,
) -> T:
    """Run a ``completion_flow`` to its end, or another flow that opens no streams."""
    effects = _Effects(port, detector, store)
    step: Callable[[], Effect] = partial(next, flow)
    while True:
        try:
            effect = step()
        except StopIteration as done:
            result: T = done.value
            return result
        step = await effects.after(flow, effect)


class AwaitingStream:
    """Runs a ``stream_flow`` as far as its consumer wants to read.

    ``served`` is the handle of the stream that was released, ``outcome`` the record so far.
    """

    def __init__(
        self,
        flow: Generator[Effect, Answer, Outcome],
        port: Port,
        detector: Detector,
        store: Store | None = None,
    ) -> None:
        self._flow: Generator[Effect, Answer, Any] = flow
        self._port = port
        self._effects = _Effects(port, detector, store)
        self._step: Callable[[], Effect] | None = partial(next, flow)
        self._running = False
        self._started = False
        self._leaving = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.served: Any = None
        # Finalisers run at exit, the newest first: before the sinks' own, which write what waits.
        self._process = os.getpid()
        weakref.finalize(self, _record_at_exit, weakref.ref(self))

    @property
    def outcome(self) -> Outcome | None:
        return self._effects.outcome

    async def advance(self) -> tuple[Chunk, ...] | None:
        """Run until chunks are released, or to the end (``None``). Raises what the flow raises."""
        self._running = True
        try:
            released = await self._advance()
        finally:
            self._running = False
        if self._leaving:
            await self.close()
        return released

    async def _advance(self) -> tuple[Chunk, ...] | None:
        if self._step is None:
            return None
        step, self._step = self._step, None
        if not self._started:
            self._started, self._loop = True, _running_loop()
        try:
            while True:
                effect = step()
                if isinstance(effect, Release):
                    self.served = effect.stream
                    self._step = partial(next, self._flow)
                    return effect.chunks
                step = await self._effects.after(self._flow, effect)
        except StopIteration:
            return None

    async def close(self) -> None:
        """The consumer wants no more: cut what is open and record it. Safe to call again."""
        self._leaving = True
        if self._running:
            # Another task is reading: cutting its stream ends that, and it does the rest.
            if self.served is not None:
                await self._effects.close(self.served)
            return
        if self._step is None:
            return
        if not self._started:
            self._step = None
            self._flow.close()
            return
        self._step = partial(self._flow.throw, ConsumerLeft())
        with suppress(ConsumerLeft):
            await self.advance()
        if self.outcome is None or not self.outcome.finished:
            self._flow = leftovers(self._effects.opened, self.outcome)
            self._step = partial(next, self._flow)
            await self.advance()

    def __del__(self) -> None:
        """Of a stream that nobody has begun to read no generator is left to close it.

        The garbage collector may have interrupted any thread anywhere.
        """
        if not self._started or self._step is None or not self.is_own:
            return
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_close_soon, self)
                return
        with suppress(RuntimeError):  # as in a dying interpreter, which has no others either
            _thread.start_new_thread(self._record, ())
            return
        self._record()

    async def close_unless_left(self) -> None:
        """Close what nobody else does.

        Generators that are dropped together with it their loop closes in tasks of their own, which
        begin within these turns: what they close is not closed by two at once.
        """
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        finally:
            if not self._leaving:
                await self.close()

    @property
    def is_own(self) -> bool:
        """Whether it is this process's. A forked child leaves its parent's to the parent."""
        return os.getpid() == self._process

    def record_unless_read(self) -> None:
        """What is known of it, where nothing can be awaited any more."""
        if self._loop is None or not self._loop.is_running():
            self._record()

    def _record(self) -> None:
        if self.outcome is not None and not self.outcome.finished:
            self._port.emit(replace(self.outcome, finished=True))


def _close_soon(stream: AwaitingStream) -> None:
    closing = asyncio.ensure_future(stream.close_unless_left())
    _closing.add(closing)
    closing.add_done_callback(_closing.discard)


def _record_at_exit(made: weakref.ref[AwaitingStream]) -> None:
    """Of a stream that is still there as the interpreter ends."""
    stream = made()
    if stream is not None and stream.is_own:
        stream.record_unless_read()


_closing: set[asyncio.Future[None]] = set()


class _Effects:
    """Performs effects and keeps what must live between them."""

    def __init__(self, port: Port, detector: Detector, store: Store | None = None) -> None:
        self._port = port
        self._detector = detector
        self._store = store or NoStore()
        self._reads: dict[int, asyncio.Task[Chunk | None]] = {}
        self._closed: dict[int, Any] = {}
        self.opened: list[Any] = []
        self.outcome: Outcome | None = None

    async def after(
        self, flow: Generator[Effect, Answer, Any], effect: Effect
    ) -> Callable[[], Effect]:
        """Perform ``effect``; returns the step that tells the flow what came of it."""
        start = perf_counter()
        try:
            answer = timed(await self._do(effect), perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - the fail-open edge: flows decide about it
            return partial(flow.send, failed(effect, error, perf_counter() - start))
        except BaseException as error:  # noqa: BLE001 - the flow cleans up, then raises it again
            return partial(flow.throw, error)
        return partial(flow.send, answer)

    async def _do(self, effect: Effect) -> Answer:
        match effect:
            case FindUsable(targets):
                return Usable(await self._port.usable(targets))
            case CallModel(target, attempt, timeout):
                return Called(await self._port.call(target, attempt, timeout))
            case OpenStream(target, attempt, timeout):
                self.opened.append(await self._port.open(target, attempt, timeout))
                return Opened(self.opened[-1])
            case NextChunk(stream, timeout):
                return arrival(await self._read(stream, timeout))
            case Classify(evidence, final):
                return Judged(await self._classify(evidence, final))
            case Consult(operations):
                # Also of a request that was cancelled: others wait for what became of it.
                with anyio.CancelScope(shield=True):
                    return await self._store.aask(operations)
            case CloseStream(stream):
                await self.close(stream)
            case Emit(record):
                self.outcome = record
                self._port.emit(record)
        return None

    async def _classify(self, evidence: Evidence, final: bool) -> Verdict:
        if _in_asyncio():
            return await classify_off_loop(self._detector, evidence, final=final)
        classify = partial(self._detector.classify, evidence, final=final)
        if not self._detector.blocking:
            return classify()
        return await anyio.to_thread.run_sync(classify, abandon_on_cancel=True)

    async def _read(self, stream: Any, timeout: float | None) -> Chunk | NotYet | None:
        read = self._reads.pop(id(stream), None)
        if read is None:
            if timeout is None or not _in_asyncio():
                return await self._port.read(stream)
            read = asyncio.ensure_future(_awaited(self._port.read(stream)))
        try:
            done, _ = await asyncio.wait({read}, timeout=timeout)
        finally:
            self._reads[id(stream)] = read
        if not done:
            return NOT_YET
        return self._reads.pop(id(stream)).result()

    async def close(self, stream: Any) -> None:
        """Close a stream once, whichever task asks first; also in a scope that was cancelled."""
        with anyio.CancelScope(shield=True):
            try:
                await self._stop_reading(stream)
            finally:
                if id(stream) not in self._closed:
                    # Kept, so that no later stream can get its id.
                    self._closed[id(stream)] = stream
                    await self._port.close(stream)

    async def _stop_reading(self, stream: Any) -> None:
        read = self._reads.pop(id(stream), None)
        if read is not None:
            read.cancel()
            await asyncio.wait({read})
            if not read.cancelled():
                read.exception()


async def _awaited(read: Awaitable[Chunk | None]) -> Chunk | None:
    return await read


def _in_asyncio() -> bool:
    """Only asyncio lets a read outlive the wait for it; elsewhere the time cap does not hold."""
    return _running_loop() is not None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

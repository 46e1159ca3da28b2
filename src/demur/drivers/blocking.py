"""The driver for blocking code."""

from __future__ import annotations

import _thread
import os
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

from ..detection import Detector
from ..flow.completion import Served
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
from ..vocabulary import Chunk, Completion, Outcome, Target
from .answers import arrival, failed, leftovers, timed
from .timed import TimedReader

CLOSE_SECONDS: Final = 5.0
"""Most seconds that an ending interpreter waits for a dropped stream to be closed."""
APART_SECONDS: Final = 0.05
"""Most seconds that whoever drops a stream waits for it."""


class Port(Protocol):
    """One request's way to its models. Exceptions it raises become ``Failed`` answers."""

    def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]: ...

    def call(self, target: Target, attempt: int, timeout: float | None) -> Completion: ...

    def open(self, target: Target, attempt: int, timeout: float | None) -> Any: ...

    def read(self, stream: Any) -> Chunk | None:
        """The next chunk, ``None`` at the end."""
        ...

    def close(self, stream: Any) -> None:
        """Close a stream, also one that another thread is reading."""
        ...

    def emit(self, record: Outcome) -> None:
        """Every record of the request; the last one is ``finished``."""
        ...


def run_completion(
    flow: Generator[Effect, Answer, Served],
    port: Port,
    detector: Detector,
    store: Store | None = None,
) -> Served:
    """Run a ``completion_flow`` to its end."""
    effects = _Effects(port, detector, store)
    step: Callable[[], Effect] = partial(next, flow)
    while True:
        try:
            effect = step()
        except StopIteration as done:
            served: Served = done.value
            return served
        step = effects.after(flow, effect)


class BlockingStream:
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
        self._turn = threading.Lock()
        self._started = False
        self._leaving = False
        self._dropped = False
        self.served: Any = None
        # Finalisers run at exit, the newest first: before the sinks' own, which write what waits.
        self._process = os.getpid()
        weakref.finalize(self, _close_at_exit, weakref.ref(self))

    @property
    def outcome(self) -> Outcome | None:
        return self._effects.outcome

    def advance(self) -> tuple[Chunk, ...] | None:
        """Run until chunks are released, or to the end (``None``). Raises what the flow raises."""
        with self._turn:
            released = self._advance()
        if self._leaving:
            self.close()
        return released

    def _advance(self) -> tuple[Chunk, ...] | None:
        if self._step is None:
            return None
        step, self._step = self._step, None
        self._started = True
        try:
            while True:
                effect = step()
                if isinstance(effect, Release):
                    self.served = effect.stream
                    self._step = partial(next, self._flow)
                    return effect.chunks
                step = self._effects.after(self._flow, effect)
        except StopIteration:
            return None

    def close(self) -> None:
        """The consumer wants no more: cut what is open and record it. Safe to call again.

        For a stream that was dropped that is done on a thread of its own: the garbage collector
        may have interrupted this one anywhere, and what is needed here may be a lock it holds. A
        generator that a server closes looks the same, so it is waited for, though not for long.
        """
        self._leaving = True
        if self._step is not None and isinstance(sys.exc_info()[1], GeneratorExit):
            self._close_dropped()
            return
        self._close()

    def __del__(self) -> None:
        """Of a stream that nobody has begun to read no generator is left to close it."""
        if self._started and self._step is not None and self.is_own:
            self._close_dropped()

    @property
    def is_own(self) -> bool:
        """Whether it is this process's. A forked child leaves its parent's to the parent."""
        return os.getpid() == self._process

    def _close_dropped(self) -> None:
        # The generators around it and itself are finalised in any order.
        if self._dropped:
            return
        self._dropped = True
        # A dying interpreter starts no threads, and has none that could hold a lock.
        with suppress(RuntimeError):
            self._close_apart()
            return
        self._close()

    def _close_apart(self) -> None:
        closing = _thread.allocate_lock()
        closing.acquire()
        # Like the finaliser of ``__init__``, for one that is not there any more.
        at_exit = weakref.finalize(self, closing.acquire, timeout=CLOSE_SECONDS)

        def close() -> None:
            try:
                self._close()
            finally:
                closing.release()
                at_exit.detach()

        try:
            _thread.start_new_thread(close, ())
        except RuntimeError:
            at_exit.detach()
            raise
        if closing.acquire(timeout=APART_SECONDS):
            closing.release()

    def _close(self) -> None:
        # Where another thread is reading, cutting its stream ends that, and it does the rest.
        if not self.left_unread() and self.served is not None:
            self._effects.close(self.served)

    def left_unread(self) -> bool:
        """As ``close``, but nothing, and ``False``, where another thread is reading."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._leave()
        finally:
            self._turn.release()
        return True

    def _leave(self) -> None:
        if self._step is None:
            return
        if not self._started:
            self._step = None
            self._flow.close()
            return
        self._step = partial(self._flow.throw, ConsumerLeft())
        with suppress(ConsumerLeft):
            self._advance()
        if self.outcome is None or not self.outcome.finished:
            self._flow = leftovers(self._effects.opened, self.outcome)
            self._step = partial(next, self._flow)
            self._advance()


def _close_at_exit(made: weakref.ref[BlockingStream]) -> None:
    """Close a stream that is still there as the interpreter ends.

    One that a daemon thread is reading is left to it: to be cut would look like an error there.
    """
    stream = made()
    if stream is not None and stream.is_own:
        stream.left_unread()


class _Effects:
    """Performs effects and keeps what must live between them."""

    def __init__(self, port: Port, detector: Detector, store: Store | None) -> None:
        self._port = port
        self._detector = detector
        self._store = store or NoStore()
        self._readers: dict[int, TimedReader] = {}
        self._closed: dict[int, Any] = {}
        self.opened: list[Any] = []
        self._closing = threading.Lock()
        self.outcome: Outcome | None = None

    def after(self, flow: Generator[Effect, Answer, Any], effect: Effect) -> Callable[[], Effect]:
        """Perform ``effect``; returns the step that tells the flow what came of it."""
        start = perf_counter()
        try:
            answer = timed(self._do(effect), perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - the fail-open edge: flows decide about it
            return partial(flow.send, failed(effect, error, perf_counter() - start))
        except BaseException as error:  # noqa: BLE001 - the flow cleans up, then raises it again
            return partial(flow.throw, error)
        return partial(flow.send, answer)

    def _do(self, effect: Effect) -> Answer:
        match effect:
            case FindUsable(targets):
                return Usable(self._port.usable(targets))
            case CallModel(target, attempt, timeout):
                return Called(self._port.call(target, attempt, timeout))
            case OpenStream(target, attempt, timeout):
                self.opened.append(self._port.open(target, attempt, timeout))
                return Opened(self.opened[-1])
            case NextChunk(stream, timeout):
                return arrival(self._reader(stream).read(timeout))
            case Classify(evidence, final):
                return Judged(self._detector.classify(evidence, final=final))
            case Consult(operations):
                return self._store.ask(operations)
            case CloseStream(stream):
                self.close(stream)
            case Emit(record):
                self.outcome = record
                self._port.emit(record)
        return None

    def _reader(self, stream: Any) -> TimedReader:
        reader = self._readers.get(id(stream))
        if reader is None:
            reader = self._readers[id(stream)] = TimedReader(partial(self._port.read, stream))
        return reader

    def close(self, stream: Any) -> None:
        """Close a stream once, whichever thread asks first."""
        with self._closing:
            if id(stream) in self._closed:
                return
            # Kept, so that no later stream can get its id.
            self._closed[id(stream)] = stream
        reader = self._readers.pop(id(stream), None)
        try:
            self._port.close(stream)
        finally:
            if reader is not None:
                reader.stop()

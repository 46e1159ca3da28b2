"""Many callers, one forward pass.

A queue gathers texts from any number of threads and event loops; a worker takes what waits, up to
a size, and scores it together. A caller holds a future: it may wait, await, or give up, and a text
that nobody waits for any more is not scored.
"""

from __future__ import annotations

import atexit
import hashlib
import math
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ..errors import DetectorError
from ..forking import renewed_in_children
from .pace import Pace
from .windows import ENDING, WINDOW_CHARS

T = TypeVar("T")
U = TypeVar("U")
Score = Callable[[Sequence[str]], Iterable[tuple[int, float]]]
"""Texts in; the index and score of each out, each as soon as it is known."""

LAST_PASS: Final = 60.0
"""Most seconds that an ending interpreter waits for the forward pass that is under way."""
ADMITTED: Final = 0.5
"""Of a caller's patience, what the queue before it may take: the speed is only estimated."""
PASS: Final = 0.25
"""Of it, what one pass may take, in which the shortest text is answered first."""
LEAST_WEIGHT: Final = 1024
"""Characters that a shorter text counts as: its own cost something besides them."""


@dataclass(eq=False)
class _Entry:
    """A text that waits, and everybody who waits for it."""

    key: bytes
    text: str
    until: float = math.inf
    """When its last caller stops waiting, by the monotonic clock."""
    waiting: list[Future[float]] = field(default_factory=list)

    def wanted(self) -> bool:
        return any(not future.cancelled() for future in self.waiting)


class Batcher:
    """Scores texts together. ``submit`` never blocks; ``close`` ends its threads.

    ``size`` texts at most go into one pass. Under load a pass waits up to ``seconds`` to fill; a
    caller who is alone is served at once. Callers wait ``patience`` seconds: no more than ``queue``
    texts wait, and by the measured speed no longer than half of it; beyond that ``submit`` raises
    ``DetectorError``, which costs its caller nothing. A text whose time has passed fails unscored.
    The same text is scored once while it waits, and not again while it is among the last ``cache``
    texts; only digests of texts are kept. ``workers`` threads score at the same time, which serves
    remote models alone.
    """

    def __init__(
        self,
        name: str,
        score: Score,
        *,
        size: int = 32,
        seconds: float = 0.002,
        queue: int = 256,
        cache: int = 10_000,
        patience: float | None = None,
        workers: int = 1,
    ) -> None:
        self.name = name
        self._line = _Line(name, score, size, seconds, queue, cache, patience, workers)
        self._workers = workers
        self._threads: list[threading.Thread] = []
        # Workers hold the line, not the batcher, so one that is dropped unclosed ends them too.
        weakref.finalize(self, self._line.close).atexit = False
        renewed_in_children(self)

    def submit(self, text: str) -> Future[float]:
        """The score to come. Raises ``DetectorError`` where it would come too late, or never."""
        future = self._line.join(text)
        if len(self._threads) < self._workers:
            try:
                self._start()
            except RuntimeError as error:
                if not self._threads and future.cancel():
                    raise DetectorError(f"{self.name}: no thread could be started") from error
        return future

    def close(self) -> None:
        """No more texts; those that wait fail."""
        self._line.close()

    def renew(self) -> None:
        """See ``Forkable``. What waits is the parent's to answer; what is known stays known."""
        self._threads = []
        self._line.begin()

    @property
    def waiting(self) -> int:
        """Texts not scored yet."""
        return len(self._line.entries)

    @property
    def passes(self) -> int:
        """Forward passes begun so far, each of one gathered batch."""
        return self._line.passes

    def _start(self) -> None:
        with self._line.lock:
            while len(self._threads) < self._workers:
                thread = threading.Thread(
                    target=_work, args=(self._line,), name=f"demur-{self.name}-batch", daemon=True
                )
                thread.start()
                self._threads.append(thread)
                # A copy: other batchers start workers at the same time.
                for ended in [t for t in tuple(_WORKERS) if not t.is_alive()]:
                    _WORKERS.pop(ended, None)
                _WORKERS[thread] = weakref.ref(self._line)


class _Line:
    """What waits, what is known, and the lock around both."""

    def __init__(
        self,
        name: str,
        score: Score,
        size: int,
        seconds: float,
        queue: int,
        cache: int,
        patience: float | None,
        workers: int,
    ) -> None:
        self.name, self.score = name, score
        self._size, self._seconds, self._queue = size, seconds, queue
        self._cache, self._workers = cache, workers
        self._patience = math.inf if patience is None else patience
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._pace = Pace()
        self.closed = False
        self.passes = 0
        self.begin()

    def begin(self) -> None:
        """With nobody waiting: at first, and in a forked child."""
        self._order: deque[_Entry] = deque()
        self.entries: dict[bytes, _Entry] = {}
        self._chars = 0
        self._crowded = False
        self.lock = threading.RLock()
        self._arrived = threading.Condition(self.lock)

    def join(self, text: str) -> Future[float]:
        key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        future: Future[float] = Future()
        with self.lock:
            if self.closed:
                raise DetectorError(f"{self.name}: closed")
            if key in self._known:
                self._known.move_to_end(key)
                future.set_result(self._known[key])
                return future
            entry = self.entries.get(key)
            if entry is None:
                self._admit(_weight(text))
                entry = self.entries[key] = _Entry(key, text)
                self._order.append(entry)
                self._chars += _weight(text)
                self._arrived.notify()
            entry.until = time.monotonic() + self._patience
            entry.waiting.append(future)
        return future

    def _admit(self, chars: int) -> None:
        """Raises ``DetectorError`` where too many wait, those left out who gave up."""
        if not self._crowd(chars):
            return
        self._forget_cancelled()
        if crowd := self._crowd(chars):
            raise DetectorError(f"{self.name}: overloaded, {crowd}")

    def _crowd(self, chars: int) -> str:
        """What keeps a text of so many characters from being served in time, in words."""
        if len(self._order) >= self._queue:
            return f"{self._queue} texts wait already"
        if not self._chars or self._patience == math.inf:
            return ""
        if not self._pace.known:
            full = len(self.entries) >= self._size * self._workers
            return f"{len(self.entries)} texts wait for the first answers" if full else ""
        passes = math.ceil((len(self.entries) + 1) / self._size)
        wait = self._pace.seconds(passes, self._chars + chars) / self._workers
        if wait <= self._patience * ADMITTED:
            return ""
        return f"an answer would take {wait:.1f} s of {self._patience:g} s"

    def _forget_cancelled(self) -> None:
        kept = deque(entry for entry in self._order if entry.wanted())
        for entry in self._order:
            if not entry.wanted():
                self._leave(entry)
        self._order = kept

    def _leave(self, entry: _Entry) -> None:
        del self.entries[entry.key]
        self._chars -= _weight(entry.text)

    def take(self) -> list[_Entry] | None:
        """What is scored next; waits for it. ``None`` once closed."""
        with self.lock:
            while not self._order:
                if self.closed:
                    return None
                self._arrived.wait()
            if self._crowded and self._seconds:
                until = time.monotonic() + self._seconds
                while len(self._order) < self._size and (left := until - time.monotonic()) > 0:
                    self._arrived.wait(left)
            taken, late = self._gathered()
            self._crowded = len(taken) > 1
            self.passes += bool(taken)
        self.fail(late, DetectorError(f"{self.name}: no answer within {self._patience:g} s"))
        return taken

    def _gathered(self) -> tuple[list[_Entry], list[_Entry]]:
        """What makes up the next pass, and what was found late on the way."""
        taken: list[_Entry] = []
        late: list[_Entry] = []
        now = time.monotonic()
        room = self._pace.chars(self._patience * PASS) if self._pace.known else math.inf
        while self._order and len(taken) < self._size:
            entry = self._order[0]
            if not entry.wanted():
                self._leave(entry)
            elif entry.until <= now:
                late.append(entry)
            elif taken and _weight(entry.text) > room:
                break
            else:
                room -= _weight(entry.text)
                taken.append(entry)
            self._order.popleft()
        return taken, late

    def answer(self, entry: _Entry, score: float) -> None:
        with self.lock:
            if self._cache:
                self._known[entry.key] = score
                if len(self._known) > self._cache:
                    self._known.popitem(last=False)
            self._leave(entry)
        for future in entry.waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(score)

    def fail(self, entries: Iterable[_Entry], error: Exception) -> None:
        for entry in entries:
            with self.lock:
                self._leave(entry)
            for future in entry.waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)

    def learn(self, chars: int, seconds: float) -> None:
        with self.lock:
            self._pace.learn(chars, seconds)

    def close(self) -> None:
        with self.lock:
            self.closed = True
            left, self._order = list(self._order), deque()
            self._arrived.notify_all()
        self.fail(left, DetectorError(f"{self.name}: closed"))


def _weight(text: str) -> int:
    """Characters that cost time: of a very long text its ends are read, or it is late anyway."""
    return min(max(len(text), LEAST_WEIGHT), 2 * WINDOW_CHARS)


def _work(line: _Line) -> None:
    while (taken := line.take()) is not None:
        if taken:
            _score(line, taken)
        del taken


_WORKERS: Final[dict[threading.Thread, weakref.ref[_Line]]] = {}
"""Every thread that may not have ended: it still frees its model when its line has closed."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WORKERS.clear)


@atexit.register
def _finish() -> None:
    """End the workers: a thread that is killed inside a native runtime aborts the process."""
    ENDING.set()
    workers = list(_WORKERS.items())
    for _, reference in workers:
        if (line := reference()) is not None:
            line.close()
        del line
    until = time.monotonic() + LAST_PASS
    for thread, _ in workers:
        thread.join(max(0.0, until - time.monotonic()))


def _score(line: _Line, taken: list[_Entry]) -> None:
    start = time.perf_counter()
    left = dict(enumerate(taken))
    try:
        for index, score in line.score([entry.text for entry in taken]):
            line.answer(left.pop(index), score)
            if line.closed:
                break
    except Exception as error:  # noqa: BLE001 - handed to those who wait; Guarded judges it
        line.fail(left.values(), error)
    else:
        line.fail(left.values(), DetectorError(f"{line.name}: left texts without a score"))
        line.learn(sum(_weight(entry.text) for entry in taken), time.perf_counter() - start)


def chained(future: Future[T], then: Callable[[T], U]) -> Future[U]:
    """The future of ``then``'s result; cancelling it cancels ``future``."""
    after: _Chained[U] = _Chained(future)

    def forward(done: Future[T]) -> None:
        after.before = None
        if done.cancelled() or not after.set_running_or_notify_cancel():
            after.cancel()
            return
        error = done.exception()
        if error is not None:
            after.set_exception(error)
        else:
            after.set_result(then(done.result()))

    future.add_done_callback(forward)
    return after


class _Chained(Future[U]):
    """Knows the future before it until that is done: no cycle is left to the garbage collector."""

    def __init__(self, before: Future[Any]) -> None:
        super().__init__()
        self.before: Future[Any] | None = before

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled and (before := self.before) is not None:
            before.cancel()
        return cancelled

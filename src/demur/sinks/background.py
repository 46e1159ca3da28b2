"""Work that must not keep a request waiting: one thread, one bounded queue."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from ..forking import renewed_in_children

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")

MOST_AT_ONCE: Final = 512
RETRY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0

_log = logging.getLogger("demur")


class NotNowError(Exception):
    """A writer cannot write, but may be able to later: a full disk, a database that is away."""


class Writer(Protocol[T_contra]):
    """What writes a batch, wholly or not at all.

    ``NotNowError`` keeps the batch for another try; any other exception loses it.
    """

    def __call__(self, batch: Sequence[T_contra], /) -> None: ...


class Background(Generic[T]):
    """Hands items to a writer, in order, on a thread that the first item starts.

    At most ``capacity`` items wait; what comes beyond is dropped and counted in ``lost``, like what
    could not be written. At a normal exit of the interpreter what waits is written. A forked child
    begins with an empty queue and a thread of its own: what waited is its parent's to write.
    ``at_end`` is called by the thread once there is nothing more to write. Where no thread can be
    started, items wait for one, or for the end. One that is collected still takes what is finalised
    after it, by a new thread if the first has ended, which then calls ``at_end`` as well.
    """

    def __init__(
        self,
        name: str,
        writer: Writer[T],
        *,
        capacity: int,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = _State(name, writer, capacity, at_end)
        _states.add(self._state)
        weakref.finalize(self, self._state.let_go).atexit = False
        weakref.finalize(self._state, _close, weakref.ref(self._state))

    def put(self, item: T) -> None:
        """Never waits longer than another thread's ``put``."""
        self._state.put(item)

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until all that was put is written or lost; whether that came in time."""
        return self._state.flush(seconds)

    def close(self) -> None:
        """Write what waits and end the thread. Later items are dropped."""
        self._state.close()

    @property
    def lost(self) -> int:
        return self._state.lost


class _State:
    """All of a ``Background`` that its thread holds on to."""

    def __init__(
        self, name: str, writer: Writer[Any], capacity: int, at_end: Callable[[], None]
    ) -> None:
        self._name = name
        self._writer = writer
        self._capacity = capacity
        self._at_end = at_end
        self._items: deque[Any] = deque()
        self._ending = False
        self._closed = False
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``: with no thread, nothing to do, and nothing lost."""
        self.lost = 0
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._items.clear()
        self._writing = 0
        self._idle = False
        self._failing = False
        self._dropping = False

    def put(self, item: Any) -> None:
        with self._changed:
            if self._thread is None and not self._closed:
                self._start()
            reason = self._reason_to_drop()
            if reason is None:
                self._items.append(item)
                if self._idle:
                    self._idle = False
                    self._changed.notify_all()
                return
            told, self._dropping = self._dropping, True
        self._lose(1)
        if not told:
            _log.error("%s: %s; records are dropped", self._name, reason)

    def _reason_to_drop(self) -> str | None:
        if self._closed:
            return "it is closed"
        if self._ending and self._thread is None:
            return "it has no thread any more"
        full = len(self._items) + self._writing >= self._capacity
        return "the queue is full" if full else None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"demur-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._tell("no thread could be started")
            return
        self._thread = thread

    def _run(self) -> None:
        while True:
            while batch := self._next():
                self._write(batch)
                with self._changed:
                    self._writing = 0
                    if self._dropping and len(self._items) < self._capacity // 2:
                        self._dropping = False
                    self._changed.notify_all()
            self._at_end()
            with self._changed:
                if not self._items:
                    self._thread = None
                    return

    def _next(self) -> list[Any]:
        with self._changed:
            while not self._items and not self._ending:
                self._idle = True
                # Not for ever: ``let_go`` may have to do without telling.
                self._changed.wait(IDLE_SECONDS)
            self._idle = False
            count = min(len(self._items), MOST_AT_ONCE)
            batch = [self._items.popleft() for _ in range(count)]
            self._writing = count
        return batch

    def _write(self, batch: list[Any]) -> None:
        while True:
            try:
                self._writer(batch)
            except NotNowError as error:
                self._tell(str(error))
                if self._wait_to_retry():
                    continue
                self._lose(len(batch))
            except Exception as error:  # noqa: BLE001 - a sink must not fail, nor stop
                # The type alone: a message may quote what was to be written.
                self._tell(type(error).__name__)
                self._lose(len(batch))
            else:
                self._failing = False
            return

    def _lose(self, count: int) -> None:
        with self._changed:
            self.lost += count
        for watcher in tuple(_watchers):
            try:
                watcher(count)
            except Exception as error:  # noqa: BLE001 - counting must not end the writing
                _log.error(
                    "%s: lost records cannot be counted: %s", self._name, type(error).__name__
                )

    def _wait_to_retry(self) -> bool:
        """Whether there is time for another try."""
        end = time.monotonic() + RETRY_SECONDS
        with self._changed:
            while not self._ending and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._ending

    def _tell(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            _log.error("%s cannot be written: %s", self._name, reason)

    def flush(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._writing, seconds)

    def let_go(self) -> None:
        """Its owner is being collected: end once nothing waits.

        The collector may have interrupted a thread that holds the lock, which is not waited for.
        """
        self._ending = True
        if not self._changed.acquire(blocking=False):
            return
        try:
            if self._items and self._thread is None:
                self._start()
            stranded = bool(self._items) and self._thread is None
            self._changed.notify_all()
        finally:
            self._changed.release()
        if stranded:
            self._run()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._ending = self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is None and self._items:
            self._run()
        elif thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)
            if waiting := len(self._items) + self._writing:
                _log.error("%s: %d records still wait to be written", self._name, waiting)
        if self.lost:
            _log.error("%s: %d records were lost", self._name, self.lost)


def _close(made: weakref.ref[_State]) -> None:
    """Runs at exit, while there is a thread or an owner."""
    state = made()
    if state is not None:
        state.close()


_states: weakref.WeakSet[_State] = weakref.WeakSet()
_watchers: list[Callable[[int], object]] = []


def records_lost() -> int:
    """Over all queues of this process that are in use."""
    return sum(state.lost for state in tuple(_states))


def watch_losses(watcher: Callable[[int], object]) -> None:
    """Have it called with how many items any queue of this process loses, when it loses them."""
    _watchers.append(watcher)


def flush(seconds: float = CLOSE_SECONDS) -> bool:
    """Wait until all that was put into any queue of this process is written or lost.

    Returns whether that came in time; for those whose process is stopped or frozen next.
    """
    end = time.monotonic() + seconds
    in_time = [state.flush(max(0.0, end - time.monotonic())) for state in tuple(_states)]
    return all(in_time)

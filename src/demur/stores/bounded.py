"""The fail-open edge of shared state: a store that fails or hangs keeps nobody waiting."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import SimpleQueue
from typing import Final, Protocol

import anyio
import anyio.to_thread

from ..flow.ledger import Operation, Told
from ..forking import renewed_in_children

AWAY_SECONDS: Final = 5.0
"""How long a store that failed is left alone."""

THREADS: Final = 8

_log = logging.getLogger("demur")


class Blocking(Protocol):
    def ask(self, operations: Sequence[Operation]) -> Told: ...


class StoreError(Exception):
    """A store that cannot answer now."""


class Bounded:
    """A blocking store that answers within ``seconds``, or raises ``StoreError``.

    It is asked on threads of its own, daemons all, so that even a look-up of its host that hangs
    is not waited for. While an answer is overdue nobody asks it, nor for ``AWAY_SECONDS`` after a
    failure. Failures are logged by their type, once until it works again.
    """

    def __init__(
        self, store: Blocking, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._away_until = float("-inf")
        self._failing = False
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``. What is overdue is the parent's to wait for."""
        self._threads = _Threads()
        self._overdue: set[Future[Told]] = set()

    def ask(self, operations: Sequence[Operation]) -> Told:
        answer = self._asked(operations)
        try:
            return self._heard(answer.result(self._seconds))
        except FutureTimeoutError as error:
            raise self._late(answer) from error
        except Exception as error:  # the fail-open edge
            raise self._failed(error) from error

    async def aask(self, operations: Sequence[Operation]) -> Told:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return await anyio.to_thread.run_sync(self.ask, operations)
        answer = self._asked(operations)
        try:
            with anyio.fail_after(self._seconds):
                told = await asyncio.wrap_future(answer)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise self._late(answer) from error
        except Exception as error:  # the fail-open edge
            raise self._failed(error) from error
        return self._heard(told)

    def _asked(self, operations: Sequence[Operation]) -> Future[Told]:
        if self._overdue or self._clock() < self._away_until:
            raise StoreError("away")
        return self._threads.run(lambda: self._store.ask(operations))

    def _heard(self, told: Told) -> Told:
        if self._failing:
            self._failing = False
            _log.info("shared state: the store answers again")
        return told

    def _late(self, answer: Future[Told]) -> StoreError:
        """Not the store's fault, perhaps: this process may have been busy all the while."""
        if not answer.cancel() and not answer.cancelled():
            self._overdue.add(answer)
            answer.add_done_callback(self._arrived)
        return StoreError("late")

    def _arrived(self, answer: Future[Told]) -> None:
        self._overdue.discard(answer)
        error = answer.exception()
        if error is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> StoreError:
        self._away_until = self._clock() + AWAY_SECONDS
        if not self._failing:
            self._failing = True
            # The type alone: a message may quote the store's address.
            _log.warning(
                "demur: shared state is not available (%s); requests go on without it",
                type(error).__name__,
            )
        return StoreError(type(error).__name__)


Call = tuple[Callable[[], Told], "Future[Told]"]


class _Threads:
    """Runs calls, each on a thread that is free, or on a new one while there are few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        weakref.finalize(self, _end, self._calls).atexit = False

    def run(self, call: Callable[[], Told]) -> Future[Told]:
        answer: Future[Told] = Future()
        if not self._idle.acquire(blocking=False):
            try:
                self._start()
            except RuntimeError as error:
                if not self._count:
                    answer.set_exception(error)
                    return answer
        self._calls.put((call, answer))
        return answer

    def _start(self) -> None:
        work = (self._calls, self._idle)
        with self._lock:
            if self._count < THREADS:
                threading.Thread(target=_work, args=work, name="demur-store", daemon=True).start()
                self._count += 1


def _work(calls: SimpleQueue[Call | None], idle: threading.Semaphore) -> None:
    while (found := calls.get()) is not None:
        call, answer = found
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed over to whoever waits
                answer.set_exception(error)
        del found, call, answer
        idle.release()
    calls.put(None)


def _end(calls: SimpleQueue[Call | None]) -> None:
    calls.put(None)

"""Waiting for what blocks no longer than asked."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..vocabulary import Chunk

T = TypeVar("T")


class NotYet(Enum):
    """Nothing arrived in time."""

    NOT_YET = "not yet"


NOT_YET = NotYet.NOT_YET


class TimedReader:
    """Reads chunks; where a timeout is given, in a thread of its own.

    A read that was not waited for goes on and answers the next call, so nothing is lost or
    reordered. Without a timeout and with nothing pending it is a plain call, as it is where no
    thread can be started.
    """

    def __init__(self, read: Callable[[], Chunk | None]) -> None:
        self._read = read
        self._wanted: SimpleQueue[Callable[[], Chunk | None] | None] = SimpleQueue()
        self._results: SimpleQueue[Chunk | BaseException | None] = SimpleQueue()
        self._pending = False
        self._started = False

    def read(self, timeout: float | None = None) -> Chunk | NotYet | None:
        """The next chunk, ``None`` at the end, ``NOT_YET`` after ``timeout`` seconds."""
        if not self._pending and (timeout is None or not self._ask()):
            return self._read()
        try:
            result = self._results.get(timeout=timeout)
        except Empty:
            return NOT_YET
        self._pending = False
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self) -> None:
        """Let the thread go; a read it is in ends when its stream is closed."""
        self._wanted.put(None)

    def _ask(self) -> bool:
        """Whether the thread reads now."""
        if not self._started:
            try:
                self._start()
            except RuntimeError:
                return False
        self._pending = True
        self._wanted.put(self._read)
        return True

    def _start(self) -> None:
        work = contextvars.copy_context().run
        threading.Thread(
            target=work, args=(_work, self._wanted, self._results), name="demur-read", daemon=True
        ).start()
        self._started = True
        # The thread knows the queues alone, so it goes even if a consumer drops its stream unread.
        weakref.finalize(self, self._wanted.put, None).atexit = False


def _work(
    wanted: SimpleQueue[Callable[[], Chunk | None] | None],
    results: SimpleQueue[Chunk | BaseException | None],
) -> None:
    while (read := wanted.get()) is not None:
        try:
            results.put(read())
        except BaseException as error:  # noqa: BLE001 - handed over to the reading thread
            results.put(error)
        del read


def call_within(seconds: float, call: Callable[[], T], drop: Callable[[T], object]) -> T:
    """What ``call`` returns; ``TimeoutError`` after ``seconds``.

    The call goes on in its thread, as nothing can stop it: what it still brings is dropped there.
    """
    called: Future[T] = Future()

    def work() -> None:
        try:
            called.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread
            called.set_exception(error)

    def forget(late: Future[T]) -> None:
        if late.exception() is None:
            drop(late.result())

    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(work,), name="demur-call", daemon=True).start()
    try:
        return called.result(seconds)
    except BaseException:
        called.add_done_callback(forget)
        raise


def shortened(usual: Any, seconds: float) -> Any:
    """``usual``, a number or an HTTP library's ``Timeout``, with no part above ``seconds``."""
    if not hasattr(usual, "as_dict"):
        return _shorter(usual, seconds)
    return type(usual)(**{part: _shorter(own, seconds) for part, own in usual.as_dict().items()})


def _shorter(own: float | None, seconds: float) -> float:
    return seconds if own is None else min(own, seconds)

"""Waiting for a blocking read no longer than asked, without losing what it brings."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from enum import Enum
from queue import Empty, SimpleQueue

from ..vocabulary import Chunk


class NotYet(Enum):
    """Nothing arrived in time."""

    NOT_YET = "not yet"


NOT_YET = NotYet.NOT_YET


class TimedReader:
    """Reads chunks; where a timeout is given, in a thread of its own.

    A read that was not waited for goes on and answers the next call, so nothing is lost or
    reordered. Without a timeout and with nothing pending it is a plain call.
    """

    def __init__(self, read: Callable[[], Chunk | None]) -> None:
        self._read = read
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._results: SimpleQueue[Chunk | Exception | None] = SimpleQueue()
        self._pending = False
        self._thread: threading.Thread | None = None

    def read(self, timeout: float | None = None) -> Chunk | NotYet | None:
        """The next chunk, ``None`` at the end, ``NOT_YET`` after ``timeout`` seconds."""
        if not self._pending:
            if timeout is None:
                return self._read()
            self._ask()
        try:
            result = self._results.get(timeout=timeout)
        except Empty:
            return NOT_YET
        self._pending = False
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> None:
        """Let the thread go; a read it is in ends when its stream is closed."""
        if self._thread is not None:
            self._wanted.put(False)

    def _ask(self) -> None:
        if self._thread is None:
            work = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=work, args=(self._work,), name="demur-read", daemon=True
            )
            self._thread.start()
        self._pending = True
        self._wanted.put(True)

    def _work(self) -> None:
        while self._wanted.get():
            try:
                self._results.put(self._read())
            except Exception as error:  # noqa: BLE001 - handed over to the reading thread
                self._results.put(error)

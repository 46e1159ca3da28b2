"""Short turns at the interpreter's lock, for numpy in a thread beside a busy event loop.

numpy gives the lock away at every operation of some size, and gets it back when the other thread's
turn is over: 5 ms by default, a few hundred times a text.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..forking import renewed_in_children

SECONDS: Final = 0.0001


class _Turns:
    """The interpreter's switch interval: short while anyone needs it so, else as it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = sys.getswitchinterval()

    @contextmanager
    def short(self) -> Iterator[None]:
        """While within it, threads take turns every ``SECONDS``; at the end of the last, as before.

        The setting is the whole process's: others lose some per cent of their speed meanwhile.
        """
        with self._lock:
            if not self._users:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(SECONDS, self._before))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._restore()

    def renew(self) -> None:
        if self._users:
            self._restore()
        self._lock = threading.Lock()
        self._users = 0

    def _restore(self) -> None:
        # Another value is somebody else's, set meanwhile. The interpreter keeps whole microseconds.
        if math.isclose(sys.getswitchinterval(), SECONDS, abs_tol=1e-6):
            sys.setswitchinterval(self._before)


_TURNS = _Turns()
renewed_in_children(_TURNS)
short_turns: Final = _TURNS.short

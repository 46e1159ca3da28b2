"""Warnings that stay readable, and cheap, when every request causes one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from ..forking import renewed_in_children

BURST: Final = 5
"""Warnings told in full within ``SECONDS``; what comes beyond is counted."""
SECONDS: Final = 10.0


class Complaints:
    """Logs warnings; under overload the first few of every ten seconds, and how many more."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self.renew()
        self._since = -SECONDS
        self._told = 0
        self._untold = 0
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``."""
        self._lock = threading.Lock()

    def add(self, message: str) -> None:
        with self._lock:
            now = self._clock()
            if now - self._since >= SECONDS:
                self._since, self._told = now, 0
            if self._told >= BURST:
                self._untold += 1
                return
            self._told += 1
            untold, self._untold = self._untold, 0
        if untold:
            message += f" (and {untold} more failures before)"
        self._log.warning("%s", message)

"""Many sinks as one, whatever becomes of each."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from ..vocabulary import Outcome

_log = logging.getLogger("demur")


class Sink(Protocol):
    """What takes a finished outcome. It is called on the request's own thread: be quick."""

    def __call__(self, record: Outcome, /) -> None: ...


class Sinks:
    """Calls every sink. What one raises is logged, once until it works again, and dropped."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._failing: set[int] = set()

    def __call__(self, record: Outcome, /) -> None:
        for number, sink in enumerate(self._sinks):
            try:
                sink(record)
            except Exception as error:  # noqa: BLE001 - a sink must not fail a request
                if number not in self._failing:
                    self._failing.add(number)
                    # The type alone: a message may quote what was to be written.
                    _log.error("sink %s failed: %s", type(sink).__name__, type(error).__name__)
            else:
                self._failing.discard(number)

"""What both drivers make of results and exceptions."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..flow.effects import (
    Answer,
    Arrived,
    CloseStream,
    Effect,
    Emit,
    Ended,
    Failed,
    FindUsable,
    Usable,
    Waited,
)
from ..vocabulary import Chunk
from .timed import NOT_YET, NotYet

_log = logging.getLogger("demur")


def timed(answer: Answer, seconds: float) -> Answer:
    """The answer with the time it took."""
    return None if answer is None else replace(answer, seconds=seconds)


def arrival(chunk: Chunk | NotYet | None) -> Answer:
    """The answer to a read."""
    if chunk is NOT_YET:
        return Waited()
    return Ended() if chunk is None else Arrived(chunk)


def failed(effect: Effect, error: Exception, seconds: float) -> Answer:
    """The answer to an effect that raised.

    Where a flow has no use for the error (a sink, a close, a check of rights) it is logged here,
    by type alone, and the request goes on.
    """
    if isinstance(effect, CloseStream | Emit | FindUsable):
        name = type(effect).__name__
        _log.warning("demur: %s failed with %s; the request goes on", name, type(error).__name__)
        return Usable((), seconds) if isinstance(effect, FindUsable) else None
    return Failed(error, seconds)

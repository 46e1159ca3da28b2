"""What both drivers make of results and exceptions."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

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
from ..vocabulary import Chunk, Outcome
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


def leftovers(opened: Iterable[Any], outcome: Outcome | None) -> Generator[Effect, Answer, None]:
    """What a stream's flow can no longer ask for once the garbage collector has ended it.

    A stream dropped unread and its flow are found in the same sweep, and which of them is told
    first is chance. ``outcome`` is the flow's last record, ``opened`` are all streams it opened.
    """
    for stream in opened:
        yield CloseStream(stream)
    if outcome is not None:
        yield Emit(replace(outcome, finished=True))

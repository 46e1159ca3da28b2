"""Cancelling whoever waits for a guarded detector."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from demur.detection.guarded import Guarded
from demur.vocabulary import Evidence, Verdict


class Queued:
    """Answers when the test says so."""

    name = "queued"
    blocking = True

    def __init__(self) -> None:
        self.answer: Future[Any] = Future()

    def submit(self, evidence: Evidence, *, final: bool = True) -> Future[Any]:
        return self.answer

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        raise NotImplementedError


@pytest.mark.parametrize("turns", range(5))
async def test_no_cancellation_is_lost(turns: int) -> None:
    """Also one that comes just as the answer does: what was given up is not gone on with."""
    detector = Queued()
    waiting = asyncio.create_task(Guarded(detector, 30).aclassify(Evidence("x")))
    await asyncio.sleep(0)
    detector.answer.set_result(Verdict("normal", 0.0, "queued"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.done():
        return
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

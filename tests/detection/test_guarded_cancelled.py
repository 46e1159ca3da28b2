"""Cancelling whoever waits for a guarded detector."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from demur.detection.guarded import Guarded
from demur.errors import DetectorError
from demur.testing import HangingDetector
from demur.vocabulary import Evidence, Verdict


class Queued:
    """Answers when the test says so."""

    name = "queued"
    blocking = True

    def __init__(self) -> None:
        self.answer: Future[Any] = Future()

    def classify_later(self, evidence: Evidence, *, final: bool = True) -> Future[Any]:
        return self.answer

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        raise NotImplementedError


@pytest.mark.parametrize("turns", range(5))
async def test_no_cancellation_is_lost(turns: int, is_cancelled_after: Any) -> None:
    """Also one that comes just as the answer does: what was given up is not gone on with."""
    detector = Queued()
    waiting = asyncio.create_task(Guarded(detector, 30).aclassify(Evidence("x")))
    await asyncio.sleep(0)
    detector.answer.set_result(Verdict("normal", 0.0, "queued"))
    await is_cancelled_after(waiting, turns)


async def test_calls_of_callers_that_left_are_counted() -> None:
    """Of a detector that hangs no more run than may, however few wait for an answer."""
    hanging = HangingDetector()
    guarded = Guarded(hanging, 30, hung_limit=3)
    before = set(threading.enumerate())
    for _ in range(10):
        waiting = asyncio.create_task(guarded.aclassify(Evidence("x")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, DetectorError)):
            await waiting
    assert len(set(threading.enumerate()) - before) == 3
    with pytest.raises(DetectorError, match="3 earlier calls have not returned"):
        await guarded.aclassify(Evidence("x"))
    hanging.release()
    for thread in threading.enumerate():
        if thread.name == "demur-hanging":
            await asyncio.to_thread(thread.join)
    assert (await guarded.aclassify(Evidence("x"))).label == "normal"

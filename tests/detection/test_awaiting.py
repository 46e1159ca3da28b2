"""Detectors asked from asyncio: the same verdicts, the loop free, no thread a call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from demur.detection.awaiting import classify_off_loop
from demur.detection.cascade import Cascade
from demur.detection.guarded import Guarded
from demur.detection.signals import SignalsDetector
from demur.errors import DetectorError
from demur.testing import HangingDetector, LyingDetector, PhraseDetector, RaisingDetector
from demur.vocabulary import Evidence, Verdict


@dataclass
class Apart:
    """A blocking detector that says which thread it was asked in."""

    name: str = "apart"
    blocking: bool = True
    score: float = 1.0
    thread: Any = None

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        self.thread = threading.current_thread()
        return Verdict("refusal" if self.score >= 0.5 else "normal", self.score, self.name)


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("text", ["I'm sorry, no.", "Sure.", "I'm so", ""])
@pytest.mark.parametrize(
    "last",
    [Apart(score=0.9), Apart(score=0.1), RaisingDetector(blocking=True), LyingDetector(None)],
    ids=["refuses", "answers", "raises", "lies"],
)
async def test_the_same_verdict_as_in_blocking_code(last: Any, text: str, final: bool) -> None:
    """Awaited or not, a cascade says the same, failures included."""
    stages = [Guarded(stage, 5.0) for stage in (SignalsDetector(), PhraseDetector(), last)]
    cascade = Cascade(stages)
    expected = cascade.classify(Evidence(text), final=final)
    assert await cascade.aclassify(Evidence(text), final=final) == expected


async def test_only_what_may_block_leaves_the_loops_thread() -> None:
    """A stage that answers at once runs on the loop, one that may block does not."""
    here, apart = Apart(blocking=False), Apart()
    await classify_off_loop(here, Evidence("x"))
    await classify_off_loop(apart, Evidence("x"))
    assert here.thread is threading.current_thread()
    assert apart.thread is not threading.current_thread()


async def test_a_hanging_stage_leaves_the_loop_free_and_costs_its_deadline() -> None:
    """While a stage hangs others run; then the stage before it answers, marked degraded."""
    hanging = HangingDetector()
    cascade = Cascade([SignalsDetector(), Guarded(hanging, 0.2)])
    asked = asyncio.create_task(cascade.aclassify(Evidence(refusal="No.")))
    ticks = 0
    while not asked.done():
        await asyncio.sleep(0.01)
        ticks += 1
    hanging.release()
    assert ticks >= 5
    verdict = asked.result()
    assert (verdict.label, verdict.stage) == ("refusal", "signals")
    assert verdict.degraded == "hanging: no answer within 0.2 s"


async def test_failures_are_detector_errors() -> None:
    """A stage that raises anything raises a DetectorError to who awaits it."""
    guarded = Guarded(RaisingDetector(ValueError("secret"), blocking=True), 1.0)
    with pytest.raises(DetectorError, match="raised ValueError"):
        await guarded.aclassify(Evidence("x"))


def test_shares_tell_what_was_passed_on() -> None:
    """Of all questions, the share that each stage was asked."""
    cascade = Cascade([SignalsDetector(), PhraseDetector(), Apart()])
    assert cascade.shares == {"signals": 0, "phrase": 0, "apart": 0}
    unsure = Cascade([SignalsDetector(), Apart(score=0.55), Apart(name="last")])
    for text in ("a", "b"):
        unsure.classify(Evidence(text))
        cascade.classify(Evidence(text))
    assert unsure.shares == {"signals": 1, "apart": 1, "last": 1}
    assert cascade.shares == {"signals": 1, "phrase": 1, "apart": 0}

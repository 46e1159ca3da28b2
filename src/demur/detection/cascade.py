"""Several detectors as one: cheapest first, stopping when one is sure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from ..errors import DetectorError
from ..vocabulary import Evidence, Verdict
from . import Detector
from .awaiting import classify_off_loop
from .signals import SignalsDetector, silent
from .text import visible

SURE: Final = 0.7
"""How far from its threshold a score must be, as a share of how far it could be, by default."""


class Cascade:
    """Asks its stages in order until one is sure; the verdict's ``stage`` says which decided.

    What was delivered in another form than text is never judged by text: only signals count there.
    A stage that fails is skipped, and the verdict of the others has ``degraded`` set; where there
    is none but that of silent signals, ``DetectorError`` is raised.

    A prefix is given to a blocking stage only to confirm a refusal that an earlier stage is unsure
    of, or where no stage before it reads text. Otherwise a prefix on which the asked stages are
    unsure, with a stage still to come, is ``uncertain``: more text costs less than a slow answer.
    """

    name: Final = "cascade"

    def __init__(
        self, stages: Sequence[Detector], sure: tuple[float, float] = (SURE, SURE)
    ) -> None:
        """``sure``: the margin from which a normal verdict, and a refusal, needs no other stage."""
        if not stages:
            raise ValueError("a cascade needs at least one stage")
        self.stages = tuple(stages)
        self._sure_normal, self._sure_refusal = sure
        self._asked = [0] * len(self.stages)

    @property
    def blocking(self) -> bool:
        return any(stage.blocking for stage in self.stages)

    @property
    def shares(self) -> dict[str, float]:
        """Of all questions so far, the share that each stage was asked; the first gets all."""
        first = max(1, self._asked[0])
        return {
            stage.name: asked / first for stage, asked in zip(self.stages, self._asked, strict=True)
        }

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """See ``Detector``."""
        asking = self._asking(evidence, final)
        try:
            stage, given = next(asking)
            while True:
                stage, given = asking.send(_answer(stage, given, final))
        except StopIteration as done:
            verdict: Verdict = done.value
            return verdict

    async def aclassify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """``classify`` for asyncio: stages that do not block answer on the event loop."""
        asking = self._asking(evidence, final)
        try:
            stage, given = next(asking)
            while True:
                stage, given = asking.send(await _awaited(stage, given, final))
        except StopIteration as done:
            verdict: Verdict = done.value
            return verdict

    def _asking(
        self, evidence: Evidence, final: bool
    ) -> Generator[tuple[Detector, Evidence], Verdict | DetectorError, Verdict]:
        """Yields who is asked about what, is sent the answer; returns the verdict of all."""
        if evidence.non_text:
            return SignalsDetector().classify(evidence, final=final)
        best: Verdict | None = None
        failure: DetectorError | None = None
        waiting = False
        for place, stage in enumerate(self.stages):
            if not (final or _worth_asking(stage, best)):
                waiting = True
                continue
            self._asked[place] += 1
            answer = yield stage, _for(stage, evidence)
            if isinstance(answer, DetectorError):
                failure = answer
                continue
            best, waiting = _joined(best, answer), False
            if self._sure(best):
                break
        return _concluded(best, failure, waiting=waiting)

    def _sure(self, verdict: Verdict) -> bool:
        least = self._sure_refusal if verdict.label == "refusal" else self._sure_normal
        return margin(verdict) >= least and verdict.label != "uncertain"


def _answer(stage: Detector, evidence: Evidence, final: bool) -> Verdict | DetectorError:
    try:
        return stage.classify(evidence, final=final)
    except DetectorError as error:
        return error


async def _awaited(stage: Detector, evidence: Evidence, final: bool) -> Verdict | DetectorError:
    try:
        return await classify_off_loop(stage, evidence, final=final)
    except DetectorError as error:
        return error


def margin(verdict: Verdict) -> float:
    """How far the score is from the threshold, as a share of how far it could be on that side."""
    score, threshold = verdict.score, verdict.threshold
    if score < threshold:
        return (threshold - score) / threshold
    return 1.0 if threshold >= 1.0 else (score - threshold) / (1.0 - threshold)


def _worth_asking(stage: Detector, best: Verdict | None) -> bool:
    """Whether a prefix should go to ``stage``, given the verdict before it."""
    if not stage.blocking or best is None:
        return True
    return best.label == "refusal" or best.stage == SignalsDetector.name


def _for(stage: Detector, evidence: Evidence) -> Evidence:
    """What a stage is given: those that read text get the refusal field's words with the rest."""
    if not evidence.refusal or stage.name == SignalsDetector.name:
        return evidence
    words = (visible(evidence.text).strip(), evidence.refusal)
    return replace(evidence, text="\n".join(word for word in words if word), refusal="")


def _joined(earlier: Verdict | None, later: Verdict) -> Verdict:
    """The later verdict, unless it only fails to see why an answer was cut off."""
    if earlier is None or earlier.label == "normal":
        return later
    if later.label == "refusal":
        kind = earlier.kind if earlier.kind == "filter" else later.kind or earlier.kind
        return replace(later, kind=kind)
    return earlier if earlier.label == "partial" else later


def _concluded(best: Verdict | None, failure: DetectorError | None, *, waiting: bool) -> Verdict:
    if failure is not None and (best is None or silent(best)):
        raise failure
    assert best is not None
    if waiting and best.label != "partial":
        best = replace(best, label="uncertain")
    if failure is None:
        return best
    return replace(best, degraded=str(failure))

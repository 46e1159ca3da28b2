"""Several stages as one: who is asked, who decides, what a failure leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection import Detector
from demur.detection.cascade import SURE, Cascade, margin
from demur.detection.signals import SignalsDetector
from demur.errors import DetectorError
from demur.vocabulary import Evidence, Kind, Label, Signal, Verdict

FILTER = Signal("finish_reason", "content_filter", "filter")
LONG = "Here is how it works. " * 20


@dataclass
class Scripted:
    """A detector that says what it is told to, and remembers what it was asked."""

    score: float = 0.0
    label: Label | None = None
    kind: Kind | None = None
    fails: bool = False
    name: str = "embedded"
    blocking: bool = False
    threshold: float = 0.5
    asked: list[Evidence] = field(default_factory=list)

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        self.asked.append(evidence)
        if self.fails:
            raise DetectorError(f"{self.name}: broken")
        label = self.label or ("refusal" if self.score >= self.threshold else "normal")
        return Verdict(label, self.score, self.name, self.threshold, self.kind)


def slow(score: float = 0.0, **more: object) -> Scripted:
    return Scripted(score, name="transformer", blocking=True, **more)  # type: ignore[arg-type]


def ask(evidence: Evidence, *stages: Detector, final: bool = True) -> Verdict:
    return Cascade([SignalsDetector(), *stages]).classify(evidence, final=final)


def test_is_a_detector() -> None:
    """It may block if any stage may, and needs one stage at least."""
    assert isinstance(Cascade([SignalsDetector()]), Detector)
    assert not Cascade([SignalsDetector(), Scripted()]).blocking
    assert Cascade([SignalsDetector(), slow()]).blocking
    with pytest.raises(ValueError, match="at least one"):
        Cascade([])


def test_a_signal_decides_alone() -> None:
    """Where a signal decides, nobody reads the text."""
    reader = Scripted(0.0)
    verdict = ask(Evidence("", signals=(FILTER,)), reader)
    assert (verdict.label, verdict.kind, verdict.stage) == ("refusal", "filter", "signals")
    assert reader.asked == []


@pytest.mark.parametrize(("score", "stage"), [(0.02, "embedded"), (0.98, "embedded")])
def test_stops_when_sure(score: float, stage: str) -> None:
    """A sure stage is the last one asked."""
    second = slow(0.5)
    assert ask(Evidence("text"), Scripted(score), second).stage == stage
    assert second.asked == []


@pytest.mark.parametrize(("score", "asked"), [(0.2, 0), (0.3, 1), (0.6, 1), (0.9, 1), (0.97, 0)])
def test_how_sure_a_stage_must_be_is_set_for_each_label(score: float, asked: int) -> None:
    """A margin of 0.5 lets a normal verdict stand here, and a refusal needs 0.9."""
    second = slow(0.5)
    Cascade([Scripted(score), second], (0.5, 0.9)).classify(Evidence("text"))
    assert len(second.asked) == asked


@pytest.mark.parametrize(("second", "label"), [(0.9, "refusal"), (0.1, "normal")])
def test_asks_on_when_unsure(second: float, label: str) -> None:
    """An unsure stage's verdict gives way to the next one's."""
    verdict = ask(Evidence("text"), Scripted(0.6, kind="scope"), slow(second))
    assert (verdict.label, verdict.stage) == (label, "transformer")
    assert verdict.kind == ("scope" if label == "refusal" else None)


@given(st.floats(0, 1), st.floats(0, 1))
def test_margin(score: float, threshold: float) -> None:
    """The margin is 0 at the threshold, 1 at the ends, and knows the threshold's place."""
    verdict = Verdict("normal", score, "s", threshold)
    assert 0.0 <= margin(verdict) <= 1.0
    if score in (0.0, 1.0) and score != threshold:
        assert margin(verdict) == 1.0


def test_text_never_refuses_what_was_delivered_otherwise() -> None:
    """With a tool call no stage reads the text, not even without a signals stage."""
    reader = Scripted(0.99)
    evidence = Evidence("I can't help with that.", non_text=True)
    for cascade in (Cascade([SignalsDetector(), reader]), Cascade([reader])):
        for final in (True, False):
            verdict = cascade.classify(evidence, final=final)
            assert (verdict.label, verdict.stage) == ("normal", "signals")
    assert reader.asked == []


def test_refusal_field_is_read_with_the_text() -> None:
    """A reader gets the refusal field's words after the visible text; its verdict stands."""
    reader = Scripted(0.02)
    verdict = ask(Evidence("<think>hm</think> So:", refusal="Paris."), reader)
    assert reader.asked == [Evidence("So:\nParis.")]
    assert verdict.label == "normal"
    assert ask(Evidence(refusal="I can't."), Scripted(0.7)).label == "refusal"
    assert ask(Evidence(refusal="I can't.")).label == "refusal"


def test_a_cut_off_answer_is_partial_unless_its_text_refuses() -> None:
    """A filter makes a long answer partial; a long block message is a refusal."""
    evidence = Evidence(LONG, signals=(FILTER,))
    verdict = ask(evidence, Scripted(0.01))
    assert (verdict.label, verdict.kind, verdict.stage) == ("partial", "filter", "signals")
    verdict = ask(evidence, Scripted(0.99, kind="policy"))
    assert (verdict.label, verdict.kind, verdict.stage) == ("refusal", "filter", "embedded")
    assert ask(evidence).label == "partial"


def test_a_failing_later_stage_leaves_the_earlier_answer() -> None:
    """The earlier answer stands, marked with what went wrong."""
    verdict = ask(Evidence("text"), Scripted(0.6), slow(fails=True))
    assert (verdict.label, verdict.stage) == ("refusal", "embedded")
    assert verdict.degraded == "transformer: broken"
    verdict = ask(Evidence(refusal="No."), Scripted(fails=True))
    assert (verdict.label, verdict.degraded) == ("refusal", "embedded: broken")


def test_a_failing_earlier_stage_is_skipped() -> None:
    """A later stage that is sure answers in full, and says what it had to do without."""
    verdict = ask(Evidence("text"), Scripted(fails=True), slow(0.99))
    assert (verdict.label, verdict.stage) == ("refusal", "transformer")
    assert verdict.degraded == "embedded: broken"


def test_nobody_could_answer() -> None:
    """Silent signals are no answer when every reader failed."""
    with pytest.raises(DetectorError, match="transformer: broken"):
        ask(Evidence("text"), Scripted(fails=True), slow(fails=True))
    with pytest.raises(DetectorError):
        ask(Evidence("text"), Scripted(fails=True), final=False)
    assert ask(Evidence("text")).label == "normal"


@pytest.mark.parametrize(
    ("first", "second", "label", "asked"),
    [
        (Scripted(0.02), slow(0.99), "normal", False),
        (Scripted(0.97), slow(0.01), "refusal", False),
        (Scripted(0.3), slow(0.99), "uncertain", False),
        (Scripted(0.3, "uncertain"), slow(0.99), "uncertain", False),
        (Scripted(0.7), slow(0.99), "refusal", True),
        (Scripted(0.7), slow(0.4, label="uncertain"), "uncertain", True),
        (Scripted(0.7), slow(0.02), "normal", True),
        (Scripted(0.7), slow(fails=True), "refusal", True),
    ],
)
def test_prefixes(first: Scripted, second: Scripted, label: str, asked: bool) -> None:
    """A prefix costs a slow stage only where it may confirm a refusal."""
    first.asked.clear()
    second.asked.clear()
    assert ask(Evidence("text"), first, second, final=False).label == label
    assert bool(second.asked) is asked


def test_prefixes_without_a_fast_reader() -> None:
    """A slow stage that is the only reader is asked about prefixes too."""
    assert ask(Evidence("text"), slow(0.99), final=False).label == "refusal"
    assert ask(Evidence("text"), slow(0.3, label="uncertain"), final=False).label == "uncertain"
    assert Cascade([slow(0.99)]).classify(Evidence("text"), final=False).label == "refusal"


def test_prefixes_with_a_fast_last_stage() -> None:
    """Where nothing is left to ask, a prefix's verdict stands though it is unsure."""
    assert ask(Evidence("text"), Scripted(0.3), final=False).label == "normal"


SCORES = st.floats(0, 1)
STAGES = st.builds(
    Scripted,
    score=SCORES,
    threshold=SCORES,
    fails=st.booleans(),
    blocking=st.booleans(),
    name=st.sampled_from(["embedded", "transformer"]),
)


@given(st.lists(STAGES, max_size=3), st.text(), st.booleans(), st.booleans())
def test_contract(stages: list[Scripted], text: str, filtered: bool, final: bool) -> None:
    """A final verdict is never uncertain, and comes from a stage that answered."""
    evidence = Evidence(text, signals=(FILTER,) if filtered else ())
    try:
        verdict = ask(evidence, *stages, final=final)
    except DetectorError:
        assert any(stage.fails for stage in stages)
        return
    assert final <= (verdict.label != "uncertain")
    assert verdict.stage in {"signals", *(s.name for s in stages if not s.fails)}
    answered = [s for s in stages if s.asked and not s.fails]
    sure = [s for s in answered if margin(Verdict("normal", s.score, "", s.threshold)) >= SURE]
    assert not sure or sure[0] is answered[-1]

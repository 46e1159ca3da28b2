"""What provider signals decide alone, and what they leave to others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection import Detector
from demur.detection.signals import (
    CUT_OFF_CHARS,
    SignalsDetector,
    anthropic_stop,
    ending,
    filtered,
    folded_ending,
    silent,
    token,
)
from demur.vocabulary import Evidence, Kind, Signal, Verdict

LONG = "Here is how it works. " * 20
FILTER = Signal("finish_reason", "content_filter", "filter")
REFUSED = Signal("stop_reason", "refusal", "policy")
LENGTH = Signal("finish_reason", "length", refuses=False)


def judge(
    text: str = "", *signals: Signal, refusal: str = "", non_text: bool = False, final: bool = True
) -> Verdict:
    evidence = Evidence(text, refusal, signals, non_text)
    return SignalsDetector().classify(evidence, final=final)


def test_is_a_detector() -> None:
    """It never blocks and stands in verdicts as signals."""
    detector = SignalsDetector()
    assert isinstance(detector, Detector)
    assert not detector.blocking
    assert judge("a").stage == detector.name == "signals"


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("text", ["", LONG])
def test_a_providers_refusal_decides(text: str, final: bool) -> None:
    """A refusing stop reason refuses at once, whatever was written before it."""
    verdict = judge(text, FILTER, REFUSED, final=final)
    assert (verdict.label, verdict.kind, verdict.score) == ("refusal", "policy", 1.0)


@pytest.mark.parametrize("text", ["", "  \n", "Here is", "<think>" + LONG + "</think>Here is"])
def test_a_filter_that_left_little_refuses(text: str) -> None:
    """A filter with little visible text is a refusal; reasoning is not visible."""
    verdict = judge(text, FILTER)
    assert (verdict.label, verdict.kind, verdict.score) == ("refusal", "filter", 1.0)


def test_a_filter_that_cut_off_an_answer_makes_it_partial() -> None:
    """From CUT_OFF_CHARS on a filtered answer is partial, and other stages may know better."""
    assert judge("x" * (CUT_OFF_CHARS - 1), FILTER).label == "refusal"
    verdict = judge("x" * CUT_OFF_CHARS, FILTER)
    assert (verdict.label, verdict.kind) == ("partial", "filter")
    assert 0.0 < verdict.score < verdict.threshold
    assert judge("", FILTER, non_text=True).label == "partial"


def test_masked_words_are_no_filter() -> None:
    """Where Bedrock only masked words, its intervention is no refusal."""
    pardon = Signal("trace.guardrail", "ANONYMIZED", refuses=False)
    assert judge("Call {NAME}.", FILTER, pardon).label == "normal"


def test_an_empty_answer_refuses() -> None:
    """Nothing at all, ended of itself, is a refusal of kind empty."""
    for text in ("", " \n\t", "<think>hm</think>\n"):
        verdict = judge(text)
        assert (verdict.label, verdict.kind, verdict.score) == ("refusal", "empty", 1.0)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "RECITATION", "pause_turn"])
def test_an_empty_answer_cut_by_a_limit_does_not(reason: str) -> None:
    """Reasoning that ate the budget, and other endings with a reason, are no refusal."""
    assert judge("", *ending("finish_reason", reason)).label == "normal"


@pytest.mark.parametrize("final", [True, False])
def test_other_deliveries_are_normal(final: bool) -> None:
    """A tool call, audio or an image is normal at once."""
    verdict = judge("I can't", non_text=True, final=final)
    assert (verdict.label, verdict.score) == ("normal", 0.0)


def test_the_refusal_field_alone_refuses_until_it_is_read() -> None:
    """Text in the refusal field counts as a refusal, but not surely."""
    verdict = judge(refusal="I can't help with that.")
    assert (verdict.label, verdict.kind) == ("refusal", "policy")
    assert verdict.threshold < verdict.score < 1.0
    assert judge("Paris.", refusal="Paris.").label == "normal"


def test_silence() -> None:
    """Plain text is normal in the end and uncertain before, and known as silence."""
    for text, signals in (("Paris.", ()), (LONG, (LENGTH,))):
        assert judge(text, *signals).label == "normal"
        assert silent(judge(text, *signals))
        assert judge(text, *signals, final=False).label == "uncertain"
        assert silent(judge(text, *signals, final=False))
    assert judge("", final=False).label == "uncertain"
    assert not silent(judge(""))
    assert not silent(judge(LONG, FILTER))


TOKENS = st.sampled_from(["stop", "length", "content_filter", "refusal", "SAFETY", "OTHER", "x"])


@given(
    st.text(),
    st.text(),
    st.lists(TOKENS),
    st.booleans(),
    st.booleans(),
)
def test_verdicts_keep_the_contract(
    text: str, refusal: str, tokens: list[str], non_text: bool, final: bool
) -> None:
    """Final verdicts are never uncertain, scores agree with labels, kinds with refusals."""
    signals = tuple(s for t in tokens for s in ending("finish_reason", t))
    verdict = judge(text, *signals, refusal=refusal, non_text=non_text, final=final)
    assert final <= (verdict.label != "uncertain")
    assert 0.0 <= verdict.score <= 1.0
    assert (verdict.score >= verdict.threshold) == (verdict.label == "refusal")
    assert (verdict.label in ("refusal", "partial")) == (verdict.kind is not None)
    assert judge(text, *signals, refusal=refusal, non_text=non_text, final=final) == verdict


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("content_filter", "filter"),
        ("SAFETY", "filter"),
        ("PROHIBITED_CONTENT", "filter"),
        ("BLOCKLIST", "filter"),
        ("SPII", "filter"),
        ("guardrail_intervened", "filter"),
        ("refusal", "policy"),
        ("RECITATION", None),
        ("LANGUAGE", None),
        ("OTHER", None),
        ("length", None),
    ],
)
def test_provider_tokens(reason: str, kind: Kind | None) -> None:
    """Known tokens refuse with their kind, the rest end a text without refusing."""
    assert ending("n", reason) == (Signal("n", reason, kind, refuses=kind is not None),)


@pytest.mark.parametrize("reason", [None, "", "stop", "end_turn", "STOP", "COMPLETE", 7, {}, []])
def test_natural_stops_are_no_signals(reason: object) -> None:
    """A natural stop, or no reason at all, says nothing."""
    assert ending("n", reason) == ()


def test_folded_endings() -> None:
    """The native token decides where it is known."""
    (signal,) = folded_ending("finish_reason", "content_filter", "OTHER")
    assert (signal.name, signal.refuses) == ("native_finish_reason", False)
    (signal,) = folded_ending("finish_reason", "content_filter", "new words here")
    assert (signal.name, signal.refuses) == ("finish_reason", True)


def test_stop_details_alone_refuse() -> None:
    """Details of type refusal are one, even where the stop reason is missing."""
    details = {"stop_details": {"type": "refusal", "category": "bio"}}
    assert [s.value for s in anthropic_stop(details)] == ["refusal", "bio"]
    assert anthropic_stop({"stop_details": {"category": "bio"}}) == ()


def test_only_filtered_categories() -> None:
    """Of Azure's results only a true filtered counts."""
    assert filtered({"hate": {"filtered": True}, "sexual": {"filtered": "yes"}, "x": None}) == (
        Signal("content_filter_results", "hate", "filter"),
    )
    assert filtered(None) == filtered([]) == ()


@given(st.text())
def test_tokens_are_safe_to_record(value: str) -> None:
    """Whatever is no token is recorded as other."""
    read = token(value)
    assert read is None or (read.isascii() and read.isprintable() and " " not in read)
    assert read in (value or None, "other")

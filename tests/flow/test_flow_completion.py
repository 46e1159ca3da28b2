"""Completion flows, played by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from flow_stage import FILTERED, A, B, C, D, Stage, Trace, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.errors import RefusedError
from demur.flow.completion import completion_flow
from demur.flow.effects import CallModel, Classify, FindUsable
from demur.flow.gathering import KEPT_CHARS
from demur.flow.plan import Plan
from demur.testing.detectors import LyingDetector, PhraseDetector, RaisingDetector
from demur.vocabulary import Completion, Evidence, Target, Usage

NORMAL = Evidence("Sure, here it is.")
REFUSAL = Evidence("I'm sorry, I can't help with that.")
PARTIAL = Evidence("I can only give you half.")
EMPTY = Evidence("")
TOOL = Evidence("I'm sorry", non_text=True)
SIGNALLED = Evidence("Well", signals=(FILTERED,))
LABELS = {
    id(NORMAL): "normal", id(REFUSAL): "refusal", id(PARTIAL): "partial",
    id(EMPTY): "refusal", id(TOOL): "normal", id(SIGNALLED): "refusal",
}  # fmt: skip


def completion(*choices: Evidence, model: str | None = None) -> Completion:
    return Completion(choices, native=object(), model=model, usage=Usage(3, 4))


def play(plan: Plan, scripts: Mapping[str, Any], **stage: Any) -> Trace:
    return Stage(scripts, **stage).play(completion_flow(plan))


choices = st.lists(st.sampled_from([NORMAL, REFUSAL, PARTIAL, EMPTY, TOOL, SIGNALLED]), max_size=3)
answers = st.one_of(
    st.builds(completion, st.just(REFUSAL)),
    choices.map(lambda c: completion(*c)),
    st.builds(ConnectionError, st.just("scripted")),
)


@dataclass
class Case:
    plan: Plan
    scripts: dict[str, Any]
    usable: frozenset[str] | None


@st.composite
def cases(draw: st.DrawFn, shadow: bool = False) -> Case:
    chain = tuple(draw(st.lists(st.sampled_from([A, B, C, D]), max_size=4)))
    # A policy may not hold both retry and error.
    actions = ("tag", "log", "error") if not chain and draw(st.booleans()) else ("tag", "log")
    plan = plan_of(
        *chain,
        actions=actions,
        on=draw(st.sampled_from([("refusal",), ("partial",), ("refusal", "partial")])),
        retry={
            "exhausted": draw(st.sampled_from(["first", "last", "error"])),
            "attempts": draw(st.none() | st.integers(2, 4)),
        },
        shadow=shadow,
    )
    usable = draw(st.none() | st.frozensets(st.sampled_from("bcd")))
    return Case(plan, {name: draw(answers) for name in "abcd"}, usable)


def refused(plan: Plan, answer: Completion) -> bool:
    """Whether the rule acts on an answer: on its least refused choice, if it has any."""
    order = ["normal", "partial", "refusal"]
    labels = sorted((LABELS[id(choice)] for choice in answer.choices), key=order.index)
    return bool(labels) and labels[0] in plan.rule.on


def expected(case: Case) -> tuple[list[Target], Any]:
    """The design in a few lines: which targets are called, and what the caller gets.

    That is a completion, an exception, or ``RefusedError`` the class.
    """
    first = case.scripts["a"]
    if isinstance(first, Exception):
        return [A], first
    if not refused(case.plan, first):
        return [A], first
    tried, answered = [A], [first]
    limit = (case.plan.rule.retry.attempts if case.plan.rule.retry else None) or 99
    for target in case.plan.chain:
        if target in tried or (case.usable is not None and target.name not in case.usable):
            continue
        if len(tried) == limit:
            break
        tried.append(target)
        answer = case.scripts[target.name]
        if isinstance(answer, Exception) or not answer.choices:
            continue
        if not refused(case.plan, answer):
            return tried, answer
        answered.append(answer)
    if "error" in case.plan.rule.actions:
        return tried, RefusedError
    if case.plan.rule.retry is None:
        return tried, first
    serve = case.plan.rule.retry.exhausted
    return tried, RefusedError if serve == "error" else answered[0 if serve == "first" else -1]


@given(cases())
@settings(max_examples=300)
def test_who_is_called_and_who_is_served(case: Case) -> None:
    """Targets are called in the chain's order, once each, and the right answer comes back, whole.

    The served object is the very one the model answered with; the first call's own exception is
    the very one it raised.
    """
    tried, served = expected(case)
    trace = play(case.plan, case.scripts, usable=case.usable)
    assert trace.tried == tried
    if served is RefusedError:
        assert isinstance(trace.error, RefusedError)
        assert trace.error.outcome == trace.outcome
        assert trace.outcome.served is None
        assert trace.outcome.ending == "exhausted"
    elif isinstance(served, Exception):
        assert trace.error is served
        assert trace.outcome.ending == "failed"
    else:
        assert trace.error is None
        assert trace.result.completion is served
        assert trace.result.outcome is trace.outcome
        attempt = trace.outcome.served_attempt
        assert attempt is not None
        assert case.scripts[attempt.target] is served


@given(cases())
def test_the_record_tells_what_happened(case: Case) -> None:
    """One finished record, with an attempt a call, and the ending and labels that hold."""
    trace = play(case.plan, case.scripts, usable=case.usable)
    outcome = trace.outcome
    assert trace.records == [outcome]
    assert [attempt.target for attempt in outcome.attempts] == [t.name for t in trace.tried]
    for attempt in outcome.attempts:
        answer = case.scripts[attempt.target]
        if isinstance(answer, Exception):
            assert (attempt.outcome, attempt.error) == ("failed", "ConnectionError")
            continue
        if not answer.choices and attempt is not outcome.attempts[0]:
            assert (attempt.outcome, attempt.error) == ("failed", "UnreadableError")
            continue
        kept = attempt.outcome == "accepted" or not case.plan.acts
        assert kept is (not refused(case.plan, answer) or not case.plan.acts)
        assert attempt.usage == answer.usage
    spent = sum(not isinstance(case.scripts[a.target], Exception) for a in outcome.attempts)
    assert outcome.refused_usage.total_tokens == 7 * (spent - (outcome.served is not None))
    assert outcome.fell_back is (outcome.served not in (0, None))
    if outcome.ending == "accepted":
        assert outcome.served == 0
    if outcome.ending == "fell_back":
        assert outcome.served == len(outcome.attempts) - 1 > 0


@given(cases(shadow=True))
def test_shadow_changes_nothing(case: Case) -> None:
    """In shadow mode the first answer is served, alone, and ``would`` says what had been done."""
    trace = play(case.plan, case.scripts, usable=case.usable)
    assert trace.tried == [A]
    assert not any(isinstance(effect, FindUsable) for effect in trace.effects)
    first = case.scripts["a"]
    if isinstance(first, Exception):
        assert trace.error is first
        return
    assert trace.result.completion is first
    assert trace.outcome.ending == "accepted"
    would = None
    if refused(case.plan, first) and case.plan.acts:
        would = "fell_back" if any(t != A for t in case.plan.chain) else "exhausted"
    assert trace.outcome.would == would


@given(cases(), st.sampled_from([RaisingDetector(), RaisingDetector(TimeoutError())]))
def test_a_failing_detector_never_costs_the_response(case: Case, detector: Any) -> None:
    """With ``on_error: pass`` the first answer is served where no detector can answer."""
    trace = play(case.plan, case.scripts, detector=detector)
    first = case.scripts["a"]
    assert trace.tried == [A]
    if isinstance(first, Exception):
        assert trace.error is first
        return
    assert trace.result.completion is first
    if first.choices:
        assert trace.outcome.verdict is not None
        assert trace.outcome.verdict.degraded


@pytest.mark.parametrize(("exhausted", "served"), [("first", "a"), ("last", "c")])
def test_exhausted_serves_the_first_or_the_last_that_answered(exhausted: str, served: str) -> None:
    """The refusal that is served after all is the very object, also if a later call failed."""
    scripts: dict[str, Any] = {name: completion(REFUSAL) for name in "abc"}
    scripts["d"] = ConnectionError("scripted")
    trace = play(plan_of(B, C, D, retry={"exhausted": exhausted}), scripts)
    assert trace.result.completion is scripts[served]
    assert trace.outcome.ending == "exhausted"


def test_on_error_refuse_falls_back() -> None:
    """With ``on_error: refuse`` a response that cannot be judged is retried like a refusal."""
    plan = plan_of(B, on_error="refuse")
    trace = play(
        plan, {"a": completion(NORMAL), "b": completion(NORMAL)}, detector=RaisingDetector()
    )
    assert trace.tried == [A, B]
    assert trace.outcome.ending == "exhausted"
    assert trace.outcome.served == 0


@given(cases(), st.integers(0, 30), st.sampled_from([KeyboardInterrupt(), ValueError()]))
def test_whatever_is_thrown_in_comes_out(case: Case, at: int, thrown: BaseException) -> None:
    """An exception thrown in anywhere comes back out, and one finished record was emitted."""
    trace = play(case.plan, case.scripts, usable=case.usable, throw={at: thrown})
    assert len(trace.finished) == 1
    if at < len(trace.effects):
        assert trace.error is thrown


def test_a_cancelled_completion_is_recorded() -> None:
    """Cancelled while a fallback runs: the refused attempt and its tokens are on record."""
    scripts = {"a": completion(REFUSAL), "b": completion(NORMAL)}
    calls = play(plan_of(B), scripts).position(CallModel, 1)
    trace = play(plan_of(B), scripts, throw={calls: KeyboardInterrupt()})
    assert isinstance(trace.error, KeyboardInterrupt)
    assert trace.outcome.ending == "abandoned"
    assert [a.outcome for a in trace.outcome.attempts] == ["refused"]
    assert trace.outcome.refused_usage.total_tokens == 7


def test_an_answer_cancelled_while_judged_is_on_record() -> None:
    """Cancelled during detection: the attempt was made, and is recorded as abandoned."""
    scripts = {"a": completion(REFUSAL)}
    trace = play(plan_of(B), scripts, throw={1: KeyboardInterrupt()})
    assert isinstance(trace.effects[1], Classify)
    assert [a.outcome for a in trace.outcome.attempts] == ["abandoned"]
    assert trace.outcome.served is None


@given(cases(), st.integers(0, 30))
def test_closing_the_flow_anywhere_is_quiet(case: Case, at: int) -> None:
    """``close()`` on the generator, as the garbage collector does it, raises nothing."""
    trace = play(case.plan, case.scripts, usable=case.usable, throw={at: GeneratorExit()})
    if at < len(trace.effects):
        assert isinstance(trace.error, GeneratorExit)
        assert len(trace.effects) == at + 1


@given(
    cases(), st.lists(st.floats(0.0, 100.0, allow_nan=False), min_size=40, max_size=40),
    st.floats(0.1, 200.0),
)  # fmt: skip
def test_seconds_add_up(case: Case, seconds: list[float], limit: float) -> None:
    """Seconds are those of the answers: nothing is lost, and no fallback starts past its limit."""
    plan = case.plan
    if plan.rule.retry is not None:
        retry = plan.rule.retry.model_copy(update={"seconds": limit})
        rule = plan.rule.model_copy(update={"retry": retry})
        plan = Plan(plan.api, plan.requested, rule, plan.chain)
    trace = play(plan, case.scripts, seconds=iter(seconds))
    clock = iter(seconds)
    elapsed, detection, calls = 0.0, 0.0, []
    for effect in trace.effects:
        if isinstance(effect, CallModel):
            if calls:
                assert elapsed < limit or effect.timeout == 0.0
                assert effect.timeout == pytest.approx(max(0.0, limit - elapsed))
            else:
                assert effect.timeout is None
            calls.append(next(clock))
            elapsed += calls[-1]
        elif isinstance(effect, Classify | FindUsable):
            spent = next(clock)
            elapsed += spent
            detection += spent if isinstance(effect, Classify) else 0.0
    outcome = trace.outcome
    assert [a.seconds for a in outcome.attempts] == pytest.approx(calls)
    assert outcome.detection_seconds == pytest.approx(detection)
    own = outcome.served_attempt.seconds if outcome.served_attempt else 0.0
    assert outcome.added_seconds == pytest.approx(elapsed - own, abs=1e-6)


def test_detection_that_fails_takes_time_too() -> None:
    """Seconds spent on a detector that raised are detection seconds, and the caller's."""
    scripts = {"a": completion(NORMAL)}
    trace = play(plan_of(), scripts, detector=RaisingDetector(), seconds=iter([1.0, 2.0]))
    assert trace.outcome.detection_seconds == pytest.approx(2.0)
    assert trace.outcome.added_seconds == pytest.approx(2.0)


def test_no_fallback_is_started_late() -> None:
    """Once the retry's seconds are over, the first refusal is served."""
    trace = play(
        plan_of(B, retry={"seconds": 5.0}),
        {"a": completion(REFUSAL), "b": completion(NORMAL)},
        seconds=iter([5.0, 0.0]),
    )
    assert trace.tried == [A]
    assert trace.outcome.ending == "exhausted"


def test_the_message_of_refused_error_holds_no_text() -> None:
    """``RefusedError`` names models and labels, never what was said."""
    trace = play(plan_of(actions=("error",)), {"a": completion(REFUSAL)})
    assert isinstance(trace.error, RefusedError)
    assert "model-a: refusal, score 1.00 by phrase" in str(trace.error)
    assert "sorry" not in str(trace.error)


def test_served_model_is_the_one_the_response_names() -> None:
    """What the response names goes before what was asked for."""
    scripts = {"a": completion(REFUSAL), "b": completion(NORMAL, model="b-2024")}
    assert play(plan_of(B), scripts).outcome.served_model == "b-2024"


def test_of_long_content_the_ends_are_kept() -> None:
    """An audit that asks for content gets as much of a text, and of a refusal, as detectors see."""
    plan = replace(plan_of(), keeps_content=True)
    trace = play(plan, {"a": completion(Evidence("a" * 99_999, "b" * 99_999))})
    (kept,) = trace.outcome.attempts[0].evidence
    assert len(kept.text) == len(kept.refusal) == 2 * KEPT_CHARS + 1


def test_what_cannot_be_read_is_not_judged() -> None:
    """A response without readable choices passes, and no detector is asked."""
    trace = play(plan_of(B), {"a": completion()}, detector=LyingDetector(None))
    assert trace.tried == [A]
    assert trace.outcome.ending == "accepted"
    assert trace.outcome.verdict is None


def test_phrase_detector_is_prefix_safe() -> None:
    """A sure verdict on a prefix is the verdict on every text that begins so."""
    detector = PhraseDetector()
    for evidence in (NORMAL, REFUSAL, PARTIAL):
        whole = detector.classify(evidence).label
        labels = [
            detector.classify(Evidence(evidence.text[:n]), final=False).label
            for n in range(len(evidence.text))
        ]
        assert set(labels) == {"uncertain", whole}
        assert labels == sorted(labels, key=lambda label: label != "uncertain")

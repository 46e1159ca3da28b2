"""Requests that start at a fallback, whatever becomes of each call: who is asked, who served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow_stage import A, B, C, D, Stage, Trace, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from standing_stage import DOWN, NORMAL, REFUSAL, World

from demur.errors import RefusedError
from demur.flow.completion import completion_flow
from demur.flow.effects import CallModel, OpenStream
from demur.flow.plan import Plan
from demur.flow.standing import Start
from demur.flow.stream import stream_flow
from demur.vocabulary import Target

TEXTS = {name: {NORMAL: f"{NORMAL} {name}", REFUSAL: f"{REFUSAL} {name}"} for name in "abcd"}


@dataclass
class Case:
    plan: Plan
    start: Target
    answers: dict[str, Any]
    usable: frozenset[str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    chain = tuple(draw(st.permutations([B, C, D]))[: draw(st.integers(1, 3))])
    retry = {
        "exhausted": draw(st.sampled_from(["first", "last", "error"])),
        "attempts": draw(st.none() | st.integers(2, 3)),
    }
    answers = {name: draw(st.sampled_from([NORMAL, REFUSAL, REFUSAL, DOWN])) for name in "abcd"}
    start = draw(st.sampled_from(chain))
    others = draw(st.frozensets(st.sampled_from("bcd")))
    return Case(plan_of(*chain, retry=retry), start, answers, others | {start.name})


def expected(case: Case) -> tuple[list[Target], Any]:
    """Which targets are called, and whose answer is served: a name, ``DOWN`` or an error."""
    place = case.plan.chain.index(case.start)
    usable = [t for t in case.plan.chain[place:] if t.name in case.usable]
    limit = case.plan.rule.retry.attempts if case.plan.rule.retry else None
    tried, answered = [], []
    for target in usable[:limit]:
        tried.append(target)
        answer = case.answers[target.name]
        if answer is NORMAL:
            return tried, target.name
        if answer is REFUSAL:
            answered.append(target.name)
    if not answered:
        answer = case.answers["a"]
        if answer is not REFUSAL:
            return [*tried, A], DOWN if answer is DOWN else "a"
        tried, answered = [*tried, A], ["a"]
    assert case.plan.rule.retry is not None
    serve = case.plan.rule.retry.exhausted
    return tried, RefusedError if serve == "error" else answered[0 if serve == "first" else -1]


def play(case: Case, *, stream: bool) -> Trace:
    world = World(stream=stream)
    scripts = {
        name: world.script(TEXTS[name][said] if isinstance(said, str) else said)
        for name, said in case.answers.items()
    }
    start = Start(at=case.start, reason="breaker")
    flow: Any = (stream_flow if stream else completion_flow)(case.plan, start)
    return Stage(scripts, usable=case.usable).play(flow)


@given(cases(), st.booleans())
@settings(max_examples=300)
def test_who_is_called_and_who_is_served(case: Case, stream: bool) -> None:
    """From its start along the chain, no target twice; the caller's own call only when all failed.

    One model's text is served, whole; attempts are numbered so that only the caller's own call
    goes untouched; every stream is closed once.
    """
    trace = play(case, stream=stream)
    tried, served = expected(case)
    assert trace.tried == tried
    calls = [e for e in trace.effects if isinstance(e, CallModel | OpenStream)]
    assert [call.attempt == 0 for call in calls] == [target is A for target in tried]
    assert [opening.closes for opening in trace.opened] == [1] * len(trace.opened)
    outcome = trace.outcome
    assert [attempt.target for attempt in outcome.attempts] == [target.name for target in tried]
    assert outcome.started == "breaker"
    if served is DOWN:
        assert trace.error is DOWN
    elif served is RefusedError:
        assert isinstance(trace.error, RefusedError)
    else:
        said = case.answers[served]
        assert World(stream=stream).text(trace) == TEXTS[served][said]
        assert outcome.served_attempt is not None
        assert outcome.served_attempt.target == served
        if said is NORMAL:
            assert outcome.ending == ("accepted" if served == "a" else "fell_back")

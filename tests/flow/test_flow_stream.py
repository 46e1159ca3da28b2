"""Stream flows, played by hand: who is served, what is seen, what is closed, what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import pytest
from flow_stage import FILTERED, A, B, C, D, Pause, Script, Stage, Trace, chunk, plan_of, stream_of
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.errors import RefusedError
from demur.flow.effects import (
    Classify,
    CloseStream,
    ConsumerLeft,
    Emit,
    FindUsable,
    NextChunk,
    OpenStream,
    Release,
)
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.testing.detectors import PhraseDetector, RaisingDetector
from demur.vocabulary import Chunk, Target, Usage

REFUSAL = "I'm sorry, but I can't help with that request, not now and not later."
NORMAL = "Sure, here is how you do it: take a large pan and put in the butter first."
PARTIAL = "I can only tell you half of it, the other half has to stay with me today."


def play(plan: Plan, scripts: Mapping[str, Script], **stage: Any) -> Trace:
    return Stage(scripts, **stage).play(stream_flow(plan))


@dataclass(eq=False)
class Act:
    """What one model does, and how the design sees it.

    ``label`` is that of the whole, ``None`` where it is not judged. ``opens`` is ``False`` where
    opening fails, ``early`` says that the stream breaks before it can be decided.
    """

    script: Script
    label: str | None
    opens: bool = True
    early: bool = False
    kind: str = ""


@st.composite
def acts(draw: st.DrawFn) -> Act:
    size = draw(st.integers(1, 30))
    # Refusals most of the time, or chains would seldom come to their end.
    kind = draw(st.sampled_from(["refuse"] * len(KINDS) + sorted(KINDS)))
    return replace(KINDS[kind](size), kind=kind)


def _tool_call(size: int) -> list[Chunk]:
    return [chunk(), chunk("I'm"), chunk(non_text=True), chunk(non_text=True), chunk(finished=True)]


def _broken(text: str, size: int) -> list[Any]:
    return [*stream_of(text, size)[:-1], ConnectionResetError("scripted")]


KINDS = {
    "refuse": lambda size: Act(stream_of(REFUSAL, size), "refusal"),
    "answer": lambda size: Act(stream_of(NORMAL, size), "normal"),
    "partial": lambda size: Act(stream_of(PARTIAL, size), "partial"),
    "short": lambda size: Act(stream_of("I'm", size), "normal"),
    "empty": lambda size: Act(stream_of("", size), "refusal"),
    "nothing": lambda size: Act([], None),
    "filtered": lambda size: Act(stream_of("I'm", size, signals=(FILTERED,)), "refusal"),
    "tool": lambda size: Act(_tool_call(size), "normal"),
    "unfinished": lambda size: Act(stream_of(REFUSAL, size)[:-1], "refusal"),
    "opaque": lambda size: Act([chunk(), Chunk(object(), opaque=True), chunk(REFUSAL)], None),
    "no-open": lambda size: Act(ConnectionError("scripted"), None, opens=False),
    "breaks-early": lambda size: Act(_broken("I'm", size), None, early=True),
    "breaks-refusing": lambda size: Act(_broken(REFUSAL, size), "refusal"),
    "breaks-answering": lambda size: Act(_broken(NORMAL, size), "normal"),
}


class Case:
    """A plan and what its models do. No dataclass: Hypothesis would print every chunk."""

    def __init__(self, plan: Plan, acts: dict[str, Act], usable: frozenset[str] | None) -> None:
        self.plan, self.acts, self.usable = plan, acts, usable

    def __repr__(self) -> str:
        kinds = {name: act.kind for name, act in self.acts.items()}
        rule, chain = self.plan.rule, [target.name for target in self.plan.chain]
        return f"{kinds} {chain} {rule.on} {rule.actions} {rule.retry} {self.usable}"

    @property
    def scripts(self) -> dict[str, Script]:
        return {name: act.script for name, act in self.acts.items()}

    def play(self, **stage: Any) -> Trace:
        return play(self.plan, self.scripts, usable=self.usable, **stage)


@st.composite
def cases(draw: st.DrawFn, shadow: bool = False) -> Case:
    chain = tuple(draw(st.lists(st.sampled_from([A, B, C, D]), max_size=4)))
    actions = ("tag", "error") if not chain and draw(st.booleans()) else ("tag", "log")
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
    return Case(plan, {name: draw(acts()) for name in "abcd"}, usable)


def expected(case: Case) -> tuple[list[Target], Any]:
    """The design in a few lines: who is opened, and who is served, or what is raised instead."""
    plan, first = case.plan, case.acts["a"]
    if not first.opens:
        return [A], first.script
    if first.label not in plan.rule.on or not plan.enforced:
        return [A], A
    tried, answered = [A], [A]
    limit = (plan.rule.retry.attempts if plan.rule.retry else None) or 99
    for target in plan.chain:
        if target in tried or (case.usable is not None and target.name not in case.usable):
            continue
        if len(tried) == limit:
            break
        tried.append(target)
        act = case.acts[target.name]
        if not act.opens or act.early:
            continue
        if act.label not in plan.rule.on:
            return tried, target
        answered.append(target)
    if "error" in plan.rule.actions:
        return tried, RefusedError
    assert plan.rule.retry is not None
    serve = plan.rule.retry.exhausted
    return tried, RefusedError if serve == "error" else answered[0 if serve == "first" else -1]


def whole(script: Script) -> tuple[list[Chunk], Exception | None]:
    assert not isinstance(script, Exception)
    events = list(script)  # type: ignore[arg-type]
    error = events.pop() if events and isinstance(events[-1], Exception) else None
    return events, error  # type: ignore[return-value]


def same(one: list[Chunk], other: list[Chunk]) -> bool:
    return [id(chunk) for chunk in one] == [id(chunk) for chunk in other]


def check_closed_once(trace: Trace) -> None:
    assert [stream.closes for stream in trace.opened] == [1] * len(trace.opened)


@given(cases())
@settings(max_examples=300)
def test_who_is_opened_and_who_is_served(case: Case) -> None:
    """The caller sees one model's stream, whole and alone, the very chunks in their order.

    What breaks in the served stream is raised in its place, after the chunks before it, as the
    same object; a first stream that cannot be opened raises its own exception.
    """
    tried, served = expected(case)
    trace = case.play()
    assert trace.tried == tried
    check_closed_once(trace)
    outcome = trace.outcome
    if served is RefusedError:
        assert isinstance(trace.error, RefusedError)
        assert trace.error.outcome == outcome
        assert (outcome.ending, outcome.served, trace.got) == ("exhausted", None, [])
    elif isinstance(served, Exception):
        assert trace.error is served
        assert (outcome.ending, outcome.served, trace.got) == ("failed", None, [])
    else:
        chunks, error = whole(case.acts[served.name].script)
        assert same(trace.got, chunks)
        assert {id(stream) for stream, _ in trace.released} <= {id(trace.opened[0])} | {
            id(s) for s in trace.opened if s.target == served
        }
        assert trace.error is error
        assert error is not None or trace.result == outcome
        assert outcome.served_attempt is not None
        assert outcome.served_attempt.target == served.name


@given(cases())
def test_the_record_tells_what_happened(case: Case) -> None:
    """One finished record, the last, with an attempt for each stream that was tried."""
    trace = case.play()
    outcome = trace.outcome
    assert trace.records[-1] is outcome
    assert outcome.stream
    assert [attempt.target for attempt in outcome.attempts] == [t.name for t in trace.tried]
    for index, attempt in enumerate(outcome.attempts):
        act = case.acts[attempt.target]
        if not act.opens or (act.early and index > 0):
            assert attempt.outcome == "failed"
            assert attempt.error in ("ConnectionError", "ConnectionResetError")
        elif case.plan.enforced and act.label in case.plan.rule.on:
            assert attempt.outcome == "refused"
            assert attempt.verdict is not None
            assert attempt.verdict.label == act.label
        else:
            assert attempt.outcome == "accepted"
            assert index == outcome.served
            broken = act.script and isinstance(act.script[-1], Exception)  # type: ignore[index]
            assert attempt.error == ("ConnectionResetError" if broken else None)
            if case.plan.acts:
                label = None if attempt.verdict is None else attempt.verdict.label
                assert label == act.label
    before = [record for record in trace.records if not record.finished]
    assert len(before) == (outcome.served is not None)
    assert all(record.served == outcome.served for record in before)


@given(cases(shadow=True))
def test_shadow_changes_nothing(case: Case) -> None:
    """In shadow mode every chunk passes as it comes, and ``would`` says what had been done."""
    trace = case.play()
    first = case.acts["a"]
    assert trace.tried == [A]
    assert not any(isinstance(effect, FindUsable) for effect in trace.effects)
    assert all(len(e.chunks) <= 1 for e in trace.effects if isinstance(e, Release))
    if not first.opens:
        assert trace.error is first.script
        return
    chunks, error = whole(first.script)
    assert same(trace.got, chunks)
    assert trace.error is error
    assert trace.outcome.ending == "accepted"
    would = None
    if first.label in case.plan.rule.on and case.plan.acts:
        would = "fell_back" if any(t != A for t in case.plan.chain) else "exhausted"
    assert trace.outcome.would == would


@given(cases(), st.sampled_from([RaisingDetector(), RaisingDetector(TimeoutError())]))
def test_a_failing_detector_never_costs_the_response(case: Case, detector: Any) -> None:
    """With ``on_error: pass`` the first stream is served whole where no detector can answer."""
    trace = case.play(detector=detector)
    first = case.acts["a"]
    assert trace.tried == [A]
    if first.opens:
        chunks, error = whole(first.script)
        assert same(trace.got, chunks)
        assert trace.error is error


@given(
    cases(),
    st.dictionaries(
        st.integers(0, 60),
        st.sampled_from([KeyboardInterrupt(), ConsumerLeft(), ValueError()]),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=300)
def test_whatever_is_thrown_in_all_is_closed_and_recorded(
    case: Case, throw: dict[int, BaseException]
) -> None:
    """Exceptions thrown in anywhere, also while cleaning up, cost no close and no record."""
    trace = case.play(throw=throw)
    check_closed_once(trace)
    assert len(trace.finished) == 1
    thrown = [throw[at] for at in sorted(throw) if at < len(trace.effects)]
    if thrown:
        assert trace.error is thrown[-1]
    served = trace.released[0][0] if trace.released else None
    assert all(stream is served for stream, _ in trace.released)
    if served is not None:
        chunks, _ = whole(served_script(case, served.target))
        assert same(trace.got, chunks[: len(trace.got)])


def served_script(case: Case, target: Target) -> Script:
    return case.acts[target.name].script


@given(cases(), st.integers(0, 60))
def test_closing_the_flow_anywhere_is_quiet(case: Case, at: int) -> None:
    """``close()`` on the generator, as the garbage collector does it, raises nothing."""
    trace = case.play(throw={at: GeneratorExit()})
    if at < len(trace.effects):
        assert isinstance(trace.error, GeneratorExit)
        assert len(trace.effects) == at + 1


@given(cases(), st.integers(0, 20))
def test_a_consumer_may_leave_at_each_release(case: Case, nth: int) -> None:
    """Left at the n-th release: nothing more is read, all is closed, the ending stands."""
    releases = [i for i, e in enumerate(case.play().effects) if isinstance(e, Release)]
    if nth >= len(releases):
        return
    trace = case.play(throw={releases[nth]: ConsumerLeft()})
    assert isinstance(trace.error, ConsumerLeft)
    check_closed_once(trace)
    assert not any(isinstance(e, NextChunk) for e in trace.effects[releases[nth] :])
    assert trace.outcome.served is not None
    assert trace.outcome.ending in ("accepted", "fell_back", "exhausted")


@given(cases())
def test_the_refused_stream_is_cut_before_anything_is_released(case: Case) -> None:
    """By the first release every other stream has been closed, and the served one has not."""
    trace = case.play()
    closed: list[Any] = []
    for effect in trace.effects:
        if isinstance(effect, CloseStream):
            closed.append(effect.stream)
        if isinstance(effect, Release):
            others = [s for s in trace.opened if s is not effect.stream]
            assert all(any(s is c for c in closed) for s in others)
            assert not any(effect.stream is c for c in closed)


def test_a_refused_stream_stays_open_until_a_fallback_is_accepted() -> None:
    """The fallback is opened and decided while the refused stream waits, unread and open."""
    scripts = {"a": stream_of(REFUSAL), "b": stream_of(NORMAL)}
    trace = play(plan_of(B), scripts)
    opened, closed = trace.position(OpenStream, 1), trace.position(CloseStream)
    first, second = trace.opened
    assert opened < closed < trace.position(Release)
    assert trace.effects[closed] == CloseStream(first)
    reads = [e.stream for e in trace.effects[:closed] if isinstance(e, NextChunk)]
    assert second in reads
    assert len([r for r in reads if r is first]) < len(scripts["a"])


@pytest.mark.parametrize(("exhausted", "served"), [("first", 0), ("last", 2)])
def test_exhausted_serves_the_first_or_the_last_that_answered(exhausted: str, served: int) -> None:
    """A refusal that is served after all comes whole, from the stream that was kept open."""
    scripts: dict[str, Script] = {
        "a": stream_of(REFUSAL, 9),
        "b": stream_of(REFUSAL, 3),
        "c": stream_of(REFUSAL, 5),
        "d": ConnectionError("scripted"),
    }
    trace = play(plan_of(B, C, D, retry={"exhausted": exhausted}), scripts)
    assert trace.outcome.ending == "exhausted"
    assert trace.outcome.served == served
    assert same(trace.got, whole(scripts["abc"[served]])[0])
    check_closed_once(trace)


def test_a_consumer_leaves_before_the_first_chunk() -> None:
    """Left while the fallback was held: both streams are closed, both attempts recorded."""
    scripts = {"a": stream_of(REFUSAL), "b": stream_of(NORMAL)}
    second = play(plan_of(B), scripts).position(OpenStream, 1)
    trace = play(plan_of(B), scripts, throw={second + 1: ConsumerLeft()})
    check_closed_once(trace)
    assert len(trace.opened) == 2
    assert trace.outcome.ending == "abandoned"
    assert trace.outcome.served is None
    assert [a.outcome for a in trace.outcome.attempts] == ["refused", "abandoned"]


@pytest.mark.parametrize("effect", [CloseStream, Emit])
def test_abandoned_between_accepting_and_releasing(effect: Any) -> None:
    """Thrown in after the fallback was accepted but before a release: nobody was served unseen."""
    scripts = {"a": stream_of(REFUSAL), "b": stream_of(NORMAL)}
    at = play(plan_of(B), scripts).position(effect)
    trace = play(plan_of(B), scripts, throw={at: KeyboardInterrupt()})
    check_closed_once(trace)
    served = trace.outcome.served is not None
    assert trace.outcome.ending == ("fell_back" if served else "abandoned")


def test_leaving_after_the_finish_chunk_records_the_verdict_on_the_whole() -> None:
    """Closing after the finish chunk, before the end, is what SDKs do: the whole is judged."""
    text = "Sure. " * 60
    scripts = {"a": stream_of(text, 50)}
    releases = [
        i for i, e in enumerate(play(plan_of(B), scripts).effects) if isinstance(e, Release)
    ]
    trace = play(plan_of(B), scripts, throw={releases[-1]: ConsumerLeft()})
    assert trace.effects[-3:-1] != []
    judged = [e for e in trace.effects[releases[-1] :] if isinstance(e, Classify)]
    assert [(e.evidence.text, e.final) for e in judged] == [(text, True)]
    earlier = play(plan_of(B), scripts, throw={releases[-2]: ConsumerLeft()})
    assert not any(isinstance(e, Classify) for e in earlier.effects[releases[-2] :])


def test_a_rule_that_never_acts_holds_nothing() -> None:
    """Tag and log only: the stream is released before its first chunk, and judged at its end."""
    trace = play(plan_of(), {"a": stream_of(REFUSAL)})
    assert trace.position(Release) < trace.position(NextChunk)
    assert [e.final for e in trace.effects if isinstance(e, Classify)] == [True]
    assert trace.outcome.verdict is not None
    assert trace.outcome.verdict.label == "refusal"
    assert trace.outcome.held_seconds is None


def test_a_late_refusal_is_recorded_not_acted_on() -> None:
    """Once released there is no switching: the verdict on the whole is only noted."""

    class Late(PhraseDetector):
        def classify(self, evidence: Any, *, final: bool = True) -> Any:
            return super().classify(evidence, final=final) if final else self._verdict("normal")

    trace = play(plan_of(B), {"a": stream_of(REFUSAL)}, detector=Late())
    assert trace.tried == [A]
    assert trace.outcome.ending == "accepted"
    assert trace.outcome.verdict is not None
    assert trace.outcome.verdict.label == "refusal"


def test_model_and_usage_of_a_stream_are_on_record() -> None:
    """Also where they come in chunks of their own, after the release."""
    last = Chunk(object(), usage=Usage(5, 6))
    named = Chunk(object(), model="a-2024")
    trace = play(plan_of(B), {"a": [named, *stream_of(NORMAL), last]})
    assert trace.outcome.served_model == "a-2024"
    assert trace.outcome.attempts[0].usage == Usage(5, 6)


@given(
    first=st.lists(st.floats(0, 5), max_size=30), second=st.lists(st.floats(0, 5), max_size=30),
    ticks=st.lists(st.floats(0, 1), min_size=200, max_size=200),
)  # fmt: skip
def test_seconds_add_up(first: list[float], second: list[float], ticks: list[float]) -> None:
    """Added, held and detection seconds are those of a scripted clock, however it runs."""

    def slow(text: str, pauses: list[float]) -> list[Any]:
        chunks = stream_of(text)
        gaps = [*map(Pause, pauses), *repeat(Pause(0.0), len(chunks))]
        return [event for pair in zip(gaps, chunks, strict=False) for event in pair]

    class Clock:
        def __init__(self) -> None:
            self.given: list[float] = []

        def __iter__(self) -> Clock:
            return self

        def __next__(self) -> float:
            self.given.append(ticks[len(self.given) % 200])
            return self.given[-1]

    scripts = {"a": slow(REFUSAL, first), "b": slow(NORMAL, second)}
    plan = plan_of(B, hold={"seconds": None}, retry={"seconds": None})
    spent = timeline(play(plan, scripts, seconds=Clock()), Clock(), scripts)
    trace = play(plan, scripts, seconds=Clock())
    outcome = trace.outcome
    assert outcome.ending == "fell_back"
    assert outcome.detection_seconds == pytest.approx(spent["detection"])
    assert outcome.held_seconds == pytest.approx(spent["held"])
    assert outcome.added_seconds == pytest.approx(spent["added"])
    assert [a.seconds for a in outcome.attempts] == pytest.approx([spent["a"], spent["b"]])


def timeline(trace: Trace, clock: Any, scripts: Mapping[str, Any]) -> dict[str, float]:
    """The same account made from outside, from the effects alone."""
    pauses = {name: iter([e.seconds for e in s if isinstance(e, Pause)])
              for name, s in scripts.items()}  # fmt: skip
    spent = {"a": 0.0, "b": 0.0, "detection": 0.0, "elapsed": 0.0}
    first_chunk: dict[str, tuple[float, float]] = {}
    released = False
    for effect in trace.effects:
        if isinstance(effect, Release):
            if not released:
                spent["held"] = spent["elapsed"] - first_chunk["b"][1]
            released = True
            continue
        if isinstance(effect, CloseStream | Emit):
            continue
        seconds = next(clock)
        if isinstance(effect, NextChunk):
            name = effect.stream.target.name
            seconds += next(pauses[name], 0.0)
            if released:
                continue
            spent[name] += seconds
            first_chunk.setdefault(name, (spent[name], spent["elapsed"] + seconds))
        elif isinstance(effect, OpenStream):
            spent[effect.target.name] += seconds
        elif isinstance(effect, Classify):
            spent["detection"] += seconds
        spent["elapsed"] += seconds
    spent["added"] = spent["elapsed"] - first_chunk["b"][0]
    return spent


def test_a_fallback_that_is_not_decided_in_time_has_failed() -> None:
    """The retry's seconds bound the fallback's hold too; then the first refusal is served."""
    slow = [chunk(), Pause(60.0), *stream_of(NORMAL)]
    trace = play(plan_of(B, C, retry={"seconds": 10.0}), {"a": stream_of(REFUSAL), "b": slow})
    check_closed_once(trace)
    assert trace.tried == [A, B]
    assert trace.outcome.ending == "exhausted"
    assert trace.outcome.served == 0
    assert trace.outcome.attempts[1].error == "TimeoutError"
    assert trace.outcome.attempts[1].seconds == pytest.approx(10.0)


def test_no_fallback_is_opened_late() -> None:
    """Once the retry's seconds are over, the first refusal is served."""
    slow = [Pause(31.0), *stream_of(REFUSAL)]
    trace = play(plan_of(B), {"a": slow, "b": stream_of(NORMAL)})
    assert trace.tried == [A]
    assert trace.outcome.ending == "exhausted"


def test_time_left_bounds_opening_a_fallback() -> None:
    """A fallback is opened with what is left of the seconds; the caller's own call is not."""
    slow = [Pause(10.0), *stream_of(REFUSAL)]
    trace = play(plan_of(B), {"a": slow, "b": stream_of(NORMAL)})
    timeouts = [e.timeout for e in trace.effects if isinstance(e, OpenStream)]
    assert timeouts == [None, pytest.approx(20.0)]

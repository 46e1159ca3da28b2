"""Stream flows, played by hand: who is served, what is seen, what is closed, what is recorded."""

from __future__ import annotations

from typing import Any

from flow_stage import A
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import Case, cases, check_closed_once, expected, same, whole

from demur.errors import RefusedError
from demur.flow.effects import CloseStream, ConsumerLeft, FindUsable, NextChunk, Release
from demur.testing.detectors import RaisingDetector


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
        if not act.opens or ((act.early or act.label is None) and index > 0):
            assert attempt.outcome == "failed"
            assert attempt.error in ("ConnectionError", "ConnectionResetError", "UnreadableError")
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
        chunks, _ = whole(case.scripts[served.target.name])
        assert same(trace.got, chunks[: len(trace.got)])


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

"""Stream flows: the cases worth telling one by one, and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import pytest
from flow_stage import A, B, C, D, Pause, Script, Trace, chunk, plan_of, stream_of
from hypothesis import given
from hypothesis import strategies as st
from stream_cases import NORMAL, REFUSAL, check_closed_once, play, same, whole

from demur.flow.effects import (
    Classify,
    CloseStream,
    ConsumerLeft,
    Emit,
    NextChunk,
    OpenStream,
    Release,
)
from demur.testing.detectors import PhraseDetector
from demur.vocabulary import Chunk, Usage


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

"""Both drivers, on the same scripts, see and record the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver_plans import (
    NORMAL,
    REFUSAL,
    complete_awaiting,
    complete_blocking,
    plan_of,
    run_awaiting,
    run_blocking,
)
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.guarded import Guarded
from demur.flow.plan import Plan
from demur.testing import (
    HangingDetector,
    LyingDetector,
    PhraseDetector,
    RaisingDetector,
    Reply,
    ScriptedModel,
    ToolCall,
)
from demur.vocabulary import Verdict

texts = st.sampled_from([NORMAL, REFUSAL, "I'm", "", "I can only give you half of that."])
replies = st.builds(
    Reply,
    st.one_of(texts, st.tuples(texts, texts)),
    refusal=st.sampled_from([None, None, "I cannot do that."]),
    finish_reason=st.sampled_from(["stop", "stop", "content_filter", "length"]),
    tool_calls=st.sampled_from([(), (), (ToolCall("look_up"),)]),
    reasoning=st.sampled_from(["", "", "Let me think."]),
    status=st.sampled_from([200] * 6 + [500]),
    body=st.sampled_from([None] * 6 + [b"broken"]),
    chunk_size=st.integers(1, 30),
    reset_after=st.none() | st.none() | st.integers(0, 8),
)
scripts = st.fixed_dictionaries({"a": replies, "b": replies, "c": replies})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return plan_of(
        *draw(st.lists(st.sampled_from("abc"), max_size=3)),
        hold={"chars": draw(st.integers(1, 60)), "seconds": draw(st.sampled_from([None, 5.0]))},
        retry={"exhausted": draw(st.sampled_from(["first", "last", "error"]))},
        at_cap=draw(st.sampled_from(["release", "judge"])),
        shadow=draw(st.booleans()),
    )


def check(model: ScriptedModel) -> None:
    assert [stream.closes for stream in model.streams] == [1] * len(model.streams)
    assert len(model.finished) == 1
    assert model.records[-1].finished


@given(scripts, plans(), st.integers(1, 8) | st.just(-1), st.sampled_from([None, "b", "bc"]))
def test_streams(script: dict[str, Reply], plan: Plan, leave: int, usable: Any) -> None:
    """The same chunks, errors, calls and records, read to the end or left early."""
    one = ScriptedModel(script, usable=usable)
    other = ScriptedModel(script, usable=usable)
    seen = run_blocking(one, plan, leave=leave)
    assert seen == asyncio.run(run_awaiting(other, plan, leave=leave))
    assert [(c.target, c.attempt) for c in one.calls] == [
        (c.target, c.attempt) for c in other.calls
    ]
    assert [s.read for s in one.streams] == [s.read for s in other.streams]
    check(one)
    check(other)


@given(scripts, plans(), st.sampled_from([None, "b", "bc"]))
def test_completions(script: dict[str, Reply], plan: Plan, usable: Any) -> None:
    """The same response, error, calls and records."""
    one = ScriptedModel(script, usable=usable)
    other = ScriptedModel(script, usable=usable)
    assert complete_blocking(one, plan) == complete_awaiting(other, plan)
    assert len(one.finished) == len(other.finished) == 1


hanging = HangingDetector()
FAULTY = [
    RaisingDetector(),
    RaisingDetector(ZeroDivisionError(), blocking=True),
    LyingDetector(None),
    LyingDetector("refusal", blocking=True),
    LyingDetector(Verdict("uncertain", 0.5, "liar")),
    LyingDetector(Verdict("refusal", float("nan"), "liar")),
    hanging,
]


@pytest.fixture(scope="module", autouse=True)
def _release_hanging() -> Any:
    yield
    hanging.release()


@pytest.mark.parametrize("detector", FAULTY, ids=lambda d: d.name)
def test_a_faulty_detector_never_costs_the_response(detector: Any) -> None:
    """Whether it raises, hangs or lies in shape: the first answer is served, whole, in time."""
    script = {"a": Reply(REFUSAL, chunk_size=20), "b": Reply(NORMAL)}
    plain = run_blocking(ScriptedModel(script), plan_of())
    guarded = Guarded(detector, 0.02)
    for seen in (
        run_blocking(ScriptedModel(script), plan_of("b"), guarded),
        asyncio.run(run_awaiting(ScriptedModel(script), plan_of("b"), guarded)),
    ):
        assert seen.got == plain.got
        assert seen.error is None
    whole = complete_blocking(ScriptedModel(script), plan_of("b"), guarded)
    assert whole == complete_awaiting(ScriptedModel(script), plan_of("b"), guarded)
    assert whole.records[-1].served == 0
    assert whole.records[-1].ending == ("accepted")
    verdict = whole.records[-1].verdict
    assert verdict is not None
    assert verdict.degraded == "DetectorError"


def test_the_first_calls_own_exception_is_the_same_object() -> None:
    """An error of the caller's own call passes as it was raised; no fallback is tried."""
    error = ConnectionError("scripted")
    model = ScriptedModel({"a": error, "b": Reply(NORMAL)})
    from demur.drivers.blocking import BlockingStream, run_completion
    from demur.flow.completion import completion_flow
    from demur.flow.stream import stream_flow

    with pytest.raises(ConnectionError) as completed:
        run_completion(completion_flow(plan_of("b")), model.blocking(), PhraseDetector())
    assert completed.value is error
    stream = BlockingStream(stream_flow(plan_of("b")), model.blocking(), PhraseDetector())
    with pytest.raises(ConnectionError) as streamed:
        stream.advance()
    assert streamed.value is error
    assert stream.advance() is None
    assert [record.ending for record in model.finished] == ["failed", "failed"]
    assert [call.target for call in model.calls] == ["a", "a"]

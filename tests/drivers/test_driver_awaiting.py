"""The awaiting driver: time caps, cancellation, the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import anyio
import pytest
from driver_plans import NORMAL, REFUSAL, plan_of

from demur.drivers.awaiting import AwaitingStream, run_completion
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.testing import HangingDetector, PhraseDetector, Reply, ScriptedModel
from demur.testing.scripted import AwaitingPort, ScriptedStream
from demur.vocabulary import Evidence, Verdict

SLOW = Reply(chunks=("I'm", " really", " slow, but here it is."), delay=0.2)


def stream_on(
    model: ScriptedModel, plan: Plan, detector: Any = None, port: Any = None
) -> AwaitingStream:
    return AwaitingStream(stream_flow(plan), port or model.awaiting(), detector or PhraseDetector())


async def read_all(stream: AwaitingStream) -> list[Any]:
    got: list[Any] = []
    while (chunks := await stream.advance()) is not None:
        got += [chunk.native for chunk in chunks]
    return got


def texts(natives: list[Any]) -> str:
    return "".join(n["choices"][0]["delta"].get("content") or "" for n in natives)


async def test_the_cap_in_seconds_holds_and_loses_nothing() -> None:
    """A read longer than the cap: what is held is released meanwhile, and every chunk arrives."""
    model = ScriptedModel({"a": SLOW, "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b", hold={"seconds": 0.05}))
    held = await stream.advance()
    assert held is not None
    assert texts([chunk.native for chunk in held]) == "I'm"
    assert model.streams[0].read == len(held)
    assert texts(await read_all(stream)) == " really slow, but here it is."
    assert stream.outcome is not None
    # The role chunk came 0.2 seconds before the text, which was then held for the cap.
    assert 0.24 < (stream.outcome.held_seconds or 0.0) < 2.0
    assert model.streams[0].closes == 1


async def test_leaving_while_a_read_is_pending_cancels_it() -> None:
    """Closed right after a release by time: the pending read is cancelled, the stream closed."""
    model = ScriptedModel({"a": SLOW, "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b", hold={"seconds": 0.05}))
    held = await stream.advance()
    assert held is not None
    await stream.close()
    assert model.streams[0].read == len(held)
    assert model.streams[0].closes == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_fallback_slower_than_the_retrys_seconds_has_failed() -> None:
    """The first refusal is served, and the slow fallback is cut."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, delay=5.0)})
    stream = stream_on(model, plan_of("b", retry={"seconds": 0.5}))
    start = time.perf_counter()
    assert texts(await read_all(stream)) == REFUSAL
    assert time.perf_counter() - start < 2.0
    assert [s.closes for s in model.streams] == [1, 1]


@pytest.mark.parametrize("timed", [True, False])
async def test_cancelled_while_held_closes_everything(timed: bool) -> None:
    """A cancelled task: the refused stream and the fallback are closed, and it is recorded."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, delay=30.0)})
    retry, hold = ({}, {}) if timed else ({"seconds": None}, {"seconds": None})
    task = asyncio.create_task(stream_on(model, plan_of("b", retry=retry, hold=hold)).advance())
    await asyncio.sleep(0.1)
    assert len(model.streams) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [s.closes for s in model.streams] == [1, 1]
    (outcome,) = model.finished
    assert outcome.ending == "abandoned"
    assert [a.outcome for a in outcome.attempts] == ["refused", "abandoned"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


class SlowToClose(AwaitingPort):
    """A port whose closing takes a while, as TLS may."""

    async def close(self, stream: ScriptedStream) -> None:
        await asyncio.sleep(0.1)
        stream.close()


async def test_cancelled_by_a_scope_closes_everything() -> None:
    """Under a cancel scope every await is cancelled; closing is kept from that."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, delay=30.0)})
    stream = stream_on(model, plan_of("b"), port=SlowToClose(model))
    with anyio.move_on_after(0.3) as scope:
        await stream.advance()
    assert scope.cancelled_caught
    assert [s.closes for s in model.streams] == [1, 1]
    assert [record.ending for record in model.finished] == ["abandoned"]


async def test_closed_inside_a_cancelled_scope_closes_everything() -> None:
    """A consumer that leaves because its scope was cancelled still cuts the connection."""
    model = ScriptedModel({"a": Reply(NORMAL, delay=0.01)})
    stream = stream_on(model, plan_of(), port=SlowToClose(model))
    await stream.advance()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.close()
    assert model.streams[0].closes == 1
    assert len(model.finished) == 1


async def test_cancelled_twice_loses_no_stream() -> None:
    """A second cancellation during the first close: the other stream is closed all the same."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, delay=30.0)})
    task = asyncio.create_task(stream_on(model, plan_of("b"), port=SlowToClose(model)).advance())
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.streams[0].closes == 1
    assert len(model.finished) == 1


async def test_a_cancelled_completion_is_recorded() -> None:
    """Cancelled while the fallback is called: the refused attempt is on record."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, first_delay=30.0)})
    run = run_completion(completion_flow(plan_of("b")), model.awaiting(), PhraseDetector())
    task = asyncio.create_task(run)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (outcome,) = model.finished
    assert outcome.ending == "abandoned"
    assert [a.outcome for a in outcome.attempts] == ["refused"]


async def test_a_blocking_detector_is_kept_off_the_event_loop() -> None:
    """While it hangs the loop goes on; cancelling does not wait for it."""
    detector = HangingDetector()
    # Were it on the loop, nothing else could ever release it.
    rescue = threading.Timer(3.0, detector.release)
    rescue.start()
    model = ScriptedModel({"a": Reply(NORMAL, chunk_size=40)})
    task = asyncio.create_task(stream_on(model, plan_of("b"), detector).advance())
    ticks = 0
    while not detector.entered.is_set() or ticks < 20:
        await asyncio.sleep(0.005)
        ticks += 1
    assert not task.done()
    start = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - start < 1.0
    rescue.cancel()
    detector.release()
    assert model.streams[0].closes == 1


async def test_a_quick_detector_runs_inline() -> None:
    """What does not block is not worth a thread."""
    threads: list[int] = []

    class Noting(PhraseDetector):
        def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
            threads.append(threading.get_ident())
            return super().classify(evidence, final=final)

    model = ScriptedModel({"a": Reply(NORMAL)})
    await read_all(stream_on(model, plan_of("b"), Noting()))
    assert set(threads) == {threading.get_ident()}


async def test_closing_from_another_task_ends_the_read() -> None:
    """A task that reads gets the transport's error; the stream is closed and recorded once."""
    model = ScriptedModel({"a": Reply(NORMAL, chunk_size=30, delay=0.2)})
    stream = stream_on(model, plan_of())
    await stream.advance()
    await stream.advance()
    reader = asyncio.create_task(stream.advance())
    await asyncio.sleep(0.05)
    await stream.close()
    with pytest.raises(ConnectionAbortedError):
        await reader
    assert model.streams[0].closes == 1
    assert len(model.finished) == 1


async def test_closing_twice_closes_once() -> None:
    """``close`` is safe to call again, before and after the end."""
    model = ScriptedModel({"a": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    await stream.advance()
    await stream.close()
    await stream.close()
    assert await stream.advance() is None
    assert model.streams[0].closes == 1
    assert len(model.finished) == 1
    unread = stream_on(model, plan_of("b"))
    await unread.close()
    assert await unread.advance() is None
    assert len(model.calls) == 1


@pytest.mark.parametrize("advances", [0, 1, 2])
async def test_an_unfinished_stream_is_collected_quietly(advances: int) -> None:
    """Dropped by its consumer and garbage collected: nothing is raised that nobody can catch."""
    model = ScriptedModel({"a": SLOW, "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b", hold={"seconds": 0.05}))
    for _ in range(advances):
        await stream.advance()
    del stream
    gc.collect()


async def test_a_dropped_stream_is_closed_and_recorded() -> None:
    """Whoever reads a driver without a generator around it need not close it, either."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    assert await stream.advance()
    del stream
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0.01)
        if model.finished:
            break
    assert [record.ending for record in model.finished] == ["fell_back"]
    assert [opened.closes for opened in model.streams] == [1, 1]

"""The blocking driver: time caps, closing, threads."""

from __future__ import annotations

import contextvars
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest
from driver_plans import NORMAL, REFUSAL, plan_of

from demur.drivers.blocking import BlockingStream, run_completion
from demur.drivers.timed import NOT_YET, TimedReader
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.testing import PhraseDetector, Reply, ScriptedModel
from demur.testing.scripted import BlockingPort
from demur.vocabulary import Chunk, Outcome, Target


def stream_on(model: ScriptedModel, plan: Plan, port: Any = None) -> BlockingStream:
    return BlockingStream(stream_flow(plan), port or model.blocking(), PhraseDetector())


def read_all(stream: BlockingStream) -> list[Any]:
    got: list[Any] = []
    while (chunks := stream.advance()) is not None:
        got += [chunk.native for chunk in chunks]
    return got


SLOW = Reply(chunks=("I'm", " really", " slow, but here it is."), delay=0.2)


def texts(natives: list[Any]) -> str:
    return "".join(n["choices"][0]["delta"].get("content") or "" for n in natives)


def test_the_cap_in_seconds_holds_and_loses_nothing() -> None:
    """A read longer than the cap: what is held is released meanwhile, and every chunk arrives."""
    model = ScriptedModel({"a": SLOW, "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b", hold={"seconds": 0.05}))
    held = stream.advance()
    assert held is not None
    assert texts([chunk.native for chunk in held]) == "I'm"
    assert model.streams[0].read == len(held)
    assert held == model.streams[0].chunks[: len(held)]
    assert texts(read_all(stream)) == " really slow, but here it is."
    assert stream.outcome is not None
    # The role chunk came 0.2 seconds before the text, which was then held for the cap.
    assert 0.24 < (stream.outcome.held_seconds or 0.0) < 2.0
    assert model.streams[0].closes == 1


def test_a_fallback_slower_than_the_retrys_seconds_has_failed() -> None:
    """The first refusal is served, and the slow fallback is cut."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL, delay=5.0)})
    stream = stream_on(model, plan_of("b", retry={"seconds": 0.5}))
    start = time.perf_counter()
    assert texts(read_all(stream)) == REFUSAL
    assert time.perf_counter() - start < 2.0
    assert stream.outcome is not None
    assert stream.outcome.attempts[1].error == "TimeoutError"
    assert [s.closes for s in model.streams] == [1, 1]


@pytest.mark.parametrize("advances", [0, 1, 2])
def test_an_unfinished_stream_is_collected_quietly(advances: int) -> None:
    """Dropped by its consumer and garbage collected: nothing raised, no thread left behind.

    Also where the stream handle leads back to the driver, as a response with a replay does.
    """
    before = set(threading.enumerate())
    model = ScriptedModel({"a": Reply(NORMAL), "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    for _ in range(advances):
        if stream.advance() is not None:
            stream.served.target = stream
    del stream, model
    gc.collect()
    time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def left(stream: BlockingStream) -> None:
    """Leave a generator that reads in a ``with`` block, as WSGI servers do."""

    def body() -> Iterator[Any]:
        with closing(stream):
            yield stream.advance()

    reading = body()
    next(reading)
    reading.close()


def test_a_generator_that_is_closed_has_closed_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """And recorded it: nothing goes on behind its caller's back."""
    monkeypatch.setattr("demur.drivers.blocking.APART_SECONDS", 10.0)
    model = ScriptedModel({"a": Reply(NORMAL), "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    left(stream)
    assert stream.outcome is not None
    assert stream.outcome.finished
    assert model.streams[0].closes == 1


def test_a_closed_generator_waits_for_no_lock_that_it_holds() -> None:
    """The garbage collector may close one anywhere: the stream is closed once the lock is free."""
    model = ScriptedModel({"a": Reply(NORMAL), "b": Reply(NORMAL)})
    held, done = threading.Lock(), threading.Event()

    class Locked(BlockingPort):
        def close(self, stream: Any) -> None:
            with held:
                super().close(stream)
            done.set()

    stream = stream_on(model, plan_of("b"), Locked(model))
    with held:
        left(stream)
        assert model.streams[0].closes == 0
    assert done.wait(10)


def test_closing_before_anything_was_read_calls_nobody() -> None:
    """Closed before its first advance: no call is made, and there is nothing to record."""
    model = ScriptedModel({"a": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    stream.close()
    assert stream.advance() is None
    assert model.calls == []


def test_closing_twice_closes_once() -> None:
    """``close`` is safe to call again, also after the end."""
    model = ScriptedModel({"a": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    stream.advance()
    stream.close()
    stream.close()
    assert stream.advance() is None
    assert model.streams[0].closes == 1
    assert len(model.finished) == 1


def test_closing_from_another_thread_ends_the_read() -> None:
    """A reading thread gets the transport's error; the stream is closed once and recorded once."""
    model = ScriptedModel({"a": Reply(NORMAL, chunk_size=30, delay=30.0)})
    stream = stream_on(model, plan_of())
    assert stream.advance() == ()
    assert stream.advance() is not None
    errors: list[Exception] = []

    def read() -> None:
        try:
            stream.advance()
        except ConnectionAbortedError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    stream.close()
    reader.join(5.0)
    assert not reader.is_alive()
    assert len(errors) == 1
    assert [s.closes for s in model.streams] == [1]
    assert len(model.finished) == 1


def test_closing_from_another_thread_while_held_ends_the_stream() -> None:
    """Closed before anything was released: nothing more is read once the wait is over."""
    model = ScriptedModel({"a": Reply(NORMAL, chunk_size=30, delay=0.1), "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    reader = threading.Thread(target=stream.advance)
    reader.start()
    time.sleep(0.05)
    stream.close()
    reader.join(5.0)
    assert model.streams[0].closes == 1
    assert model.streams[0].read < len(model.streams[0].chunks)
    assert len(model.finished) == 1
    assert stream.advance() is None


def test_many_threads_reading_and_closing() -> None:
    """Closing races with reading: no interleaving breaks the flow or closes twice."""
    for _ in range(200):
        model = ScriptedModel({"a": Reply(NORMAL, chunk_size=1)})
        stream = stream_on(model, plan_of())
        stream.advance()
        unexpected: list[BaseException] = []

        def read(stream: BlockingStream = stream, seen: Any = unexpected) -> None:
            try:
                read_all(stream)
            except ConnectionAbortedError:
                pass
            except BaseException as error:  # noqa: BLE001 - collected for the assertion
                seen.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        stream.close()
        reader.join(5.0)
        assert unexpected == []
        assert [s.closes for s in model.streams] == [1]
        assert len(model.finished) == 1


def test_leaving_after_the_finish_chunk_still_judges_the_whole() -> None:
    """A consumer that closes after the finish chunk, before the end, gets the whole recorded."""
    model = ScriptedModel({"a": Reply(REFUSAL)})
    stream = stream_on(model, plan_of())
    while (chunks := stream.advance()) is not None:
        if chunks and chunks[0].native["choices"][0]["finish_reason"]:
            break
    stream.close()
    (outcome,) = model.finished
    assert outcome.verdict is not None
    assert outcome.verdict.label == "refusal"


class Faulty(BlockingPort):
    """A port whose sinks, closes and rights checks raise."""

    def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        raise PermissionError("secret")

    def close(self, stream: Any) -> None:
        super().close(stream)
        raise OSError("secret")

    def emit(self, record: Outcome) -> None:
        super().emit(record)
        raise OSError("secret")


def test_sinks_closes_and_rights_that_raise_cost_nothing(caplog: Any) -> None:
    """They are logged by type alone; without rights known to hold there is no fallback."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL)})
    with caplog.at_level(logging.WARNING, "demur"):
        stream = stream_on(model, plan_of("b"), Faulty(model))
        assert texts(read_all(stream)) == REFUSAL
        served = run_completion(completion_flow(plan_of("b")), Faulty(model), PhraseDetector())
    assert served.outcome.ending == "exhausted"
    assert stream.outcome is not None
    assert stream.outcome.ending == "exhausted"
    assert "PermissionError" in caplog.text
    assert "secret" not in caplog.text


def test_a_keyboard_interrupt_while_held_closes_everything() -> None:
    """An interrupt in the fallback's read: both streams are closed, and the record emitted."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL)})

    class Interrupted(BlockingPort):
        def read(self, stream: Any) -> Chunk | None:
            if stream.target == "b":
                raise KeyboardInterrupt
            return super().read(stream)

    plan = plan_of("b", hold={"seconds": None}, retry={"seconds": None})
    with pytest.raises(KeyboardInterrupt):
        stream_on(model, plan, Interrupted(model)).advance()
    assert [s.closes for s in model.streams] == [1, 1]
    assert [record.ending for record in model.finished] == ["abandoned"]


def test_timed_reads_keep_order_whatever_the_timeouts() -> None:
    """Reads that were not waited for answer the next call: nothing is lost or reordered."""
    chunks: list[Chunk | None] = [*(Chunk(n) for n in range(6)), None]
    delays = iter([0.0, 0.06, 0.0, 0.03, 0.0, 0.05, 0.0])

    def read() -> Chunk | None:
        time.sleep(next(delays))
        return chunks[len(got)] if len(got) < len(chunks) else None

    got: list[Any] = []
    reader = TimedReader(read)
    timeouts = [0.02, None, 0.0, 0.05]
    calls = 0
    while len(got) < len(chunks):
        result = reader.read(timeouts[calls % len(timeouts)])
        calls += 1
        if result is not NOT_YET:
            got.append(result)
    reader.stop()
    assert got == chunks
    assert calls > len(chunks)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_what_a_timed_read_raises_comes_out_as_the_same_object(error: BaseException) -> None:
    """Also what is no ``Exception``: a reading thread never dies without an answer."""

    def read() -> Chunk | None:
        raise error

    reader = TimedReader(read)
    with pytest.raises(type(error)) as raised:
        reader.read(1.0)
    assert raised.value is error
    reader.stop()


def test_the_reading_thread_ends_and_carries_the_context() -> None:
    """A timed read sees the caller's context variables, and its thread goes with the stream."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    seen: list[str] = []

    def read() -> Chunk | None:
        seen.append(variable.get())
        return None

    before = set(threading.enumerate())
    reader = TimedReader(read)
    assert reader.read(1.0) is None
    (thread,) = set(threading.enumerate()) - before
    reader.stop()
    thread.join(2.0)
    assert not thread.is_alive()
    assert seen == ["set"]


def test_without_a_thread_a_read_takes_its_time(
    threadless: Callable[[], AbstractContextManager[None]],
) -> None:
    """Where none can be started the chunk is read in place; the next timed read tries again."""
    chunks = [Chunk(n) for n in range(3)]
    waiting = iter(chunks)

    def read() -> Chunk | None:
        time.sleep(0.05)
        return next(waiting)

    reader = TimedReader(read)
    with threadless():
        assert reader.read(0.0) is chunks[0]
    assert reader.read(0.0) is NOT_YET
    assert [reader.read(), reader.read()] == chunks[1:]
    reader.stop()


def test_a_dropped_stream_is_closed_and_recorded() -> None:
    """Whoever reads a driver without a generator around it need not close it, either."""
    model = ScriptedModel({"a": Reply(REFUSAL), "b": Reply(NORMAL)})
    stream = stream_on(model, plan_of("b"))
    assert stream.advance()
    del stream
    gc.collect()
    deadline = time.monotonic() + 5
    while not model.finished and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [record.ending for record in model.finished] == ["fell_back"]
    assert [opened.closes for opened in model.streams] == [1, 1]

"""More texts than can be served: who is turned away, what is dropped, what is remembered."""

from __future__ import annotations

import gc
import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from demur.detection.batching import Batcher
from demur.detection.complaints import BURST, SECONDS, Complaints
from demur.detection.guarded import Guarded
from demur.detection.reading import ReadingDetector
from demur.errors import DetectorError
from demur.vocabulary import Evidence, Verdict


class Gated:
    """A text model that scores when it is let; ``seconds`` a text."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.passes: list[list[str]] = []
        self.gate = threading.Event()

    def scores(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        self.passes.append(list(texts))
        assert self.gate.wait(30)
        for index in range(len(texts)):
            time.sleep(self.seconds)
            yield index, 0.5

    def begun(self) -> None:
        """Wait for the first pass."""
        while not self.passes:
            time.sleep(0.001)


def test_a_text_whose_time_has_passed_is_not_scored() -> None:
    """It fails when the worker comes to it; who asked for the same text later is served."""
    model = Gated()
    batcher = Batcher("m", model.scores, size=8, patience=0.2)
    first = batcher.submit("first")
    model.begun()
    late, shared = batcher.submit("late"), batcher.submit("shared")
    time.sleep(0.15)
    again = batcher.submit("shared")
    time.sleep(0.1)
    model.gate.set()
    assert (first.result(5), shared.result(5), again.result(5)) == (0.5, 0.5, 0.5)
    with pytest.raises(DetectorError, match=r"no answer within 0\.2 s"):
        late.result(5)
    assert model.passes == [["first"], ["shared"]]
    assert batcher.waiting == 0


def test_before_the_speed_is_known_one_pass_of_texts_may_wait() -> None:
    """A burst at the start cannot fill the queue with what will be late."""
    model = Gated()
    batcher = Batcher("m", model.scores, size=4, queue=1000, patience=5.0)
    first = batcher.submit("0")
    model.begun()
    kept = [batcher.submit(str(i)) for i in (1, 2, 3)]
    with pytest.raises(DetectorError, match="4 texts wait for the first answers"):
        batcher.submit("4")
    model.gate.set()
    assert not wait([first, *kept], 5).not_done
    batcher.submit("5").result(5)


def test_a_pass_and_a_queue_take_their_share_of_the_patience() -> None:
    """At 0.02 s a text and 0.8 s of patience: passes of ten texts, and twenty that wait."""
    model = Gated(0.02)
    model.gate.set()
    batcher = Batcher("m", model.scores, size=100, queue=1000, patience=0.8)
    batcher.submit("x" * 100).result(5)
    accepted = []
    with pytest.raises(DetectorError, match=r"of 0\.8 s"):
        accepted.extend(batcher.submit(f"{i:03}" + "x" * 97) for i in range(100))
    assert 10 <= len(accepted) <= 21
    assert [answer.result(5) for answer in accepted] == [0.5] * len(accepted)
    assert max(map(len, model.passes)) <= 10


def test_an_empty_queue_takes_any_text() -> None:
    """However slow the model seemed: else it would never be found to be faster again."""
    model = Gated(0.1)
    model.gate.set()
    batcher = Batcher("m", model.scores, patience=2.0)
    batcher.submit("slow").result(5)
    model.seconds = 0.0
    assert batcher.submit("x" * 1000).result(5) == 0.5


@pytest.mark.parametrize("patience", [None, 60.0])
def test_what_is_remembered_of_long_texts_is_small(patience: float | None) -> None:
    """A hundred texts of a megabyte leave some kilobytes, not a hundred megabytes."""
    model = Gated()
    model.gate.set()
    batcher = Batcher("m", model.scores, patience=patience)
    batcher.submit("first").result(5)
    model.passes.clear()
    tracemalloc.start()
    try:
        for number in range(100):
            batcher.submit(f"{number}" + "x" * 1_000_000).result(5)
            model.passes.clear()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_500_000
    assert peak < 10_000_000


def test_those_who_gave_up_leave_room() -> None:
    """Texts that nobody waits for are forgotten when the queue is full of them."""
    model = Gated()
    batcher = Batcher("m", model.scores, size=1, queue=50)
    first = batcher.submit("first")
    model.begun()
    for number in range(1000):
        batcher.submit(f"{number}").cancel()
        assert batcher.waiting <= 51
    model.gate.set()
    assert first.result(5) == 0.5


class Unheard(Future[Verdict]):
    """Is never answered; notes how long it was waited for."""

    waited: float | None = None

    def result(self, timeout: float | None = None) -> Verdict:
        self.waited = timeout
        return super().result(0)


class Silent:
    """A detector with a queue of its own, out of which nothing comes."""

    name, blocking = "m", True

    def __init__(self) -> None:
        self.answer = Unheard()

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        raise AssertionError("its queue is there")

    def classify_later(self, evidence: Evidence, *, final: bool = True) -> Future[Verdict]:
        return self.answer


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_an_answer_that_does_not_come_is_given_up_before_the_deadline(seconds: float) -> None:
    """Waking up takes time, so the timer ends before the caller's time does."""
    detector = Silent()
    with pytest.raises(DetectorError, match=f"no answer within {seconds:g} s"):
        Guarded(detector, seconds).classify(Evidence("text"))
    assert detector.answer.waited is not None
    assert 0.9 * seconds < detector.answer.waited < seconds


def test_every_caller_gives_up() -> None:
    """Eight threads that wait for one queue all hear that nothing came in time."""
    model = Gated()
    guarded = Guarded(
        ReadingDetector("m", model, 0.5, Batcher("m", model.scores, patience=0.1)), 0.1
    )

    def ask(number: int) -> float:
        start = time.perf_counter()
        with pytest.raises(DetectorError, match=r"no answer within 0\.1 s"):
            guarded.classify(Evidence(f"{number}"))
        return time.perf_counter() - start

    with ThreadPoolExecutor(8) as pool:
        spent = list(pool.map(ask, range(8)))
    model.gate.set()
    assert min(spent) > 0.09


def test_answers_leave_no_garbage() -> None:
    """What was asked and answered is freed at once: a full collection would stop every thread."""
    model = Gated()
    model.gate.set()
    detector = ReadingDetector("m", model, 0.5, Batcher("m", model.scores, cache=0))
    detector.classify(Evidence("first"))
    gc.collect()
    gc.disable()
    try:
        for number in range(100):
            detector.classify_later(Evidence(f"{number}")).result(5)
            given_up = detector.classify_later(Evidence(f"{number} again"))
            given_up.cancel()
        del given_up
        detector.classify(Evidence("last"))
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_complaints_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """The first few in full; then, after a while, how many there were more."""
    now = 0.0
    complaints = Complaints(logging.getLogger("demur"), lambda: now)
    for number in range(1000):
        complaints.add(f"m: {number}")
    assert [record.getMessage() for record in caplog.records] == [f"m: {i}" for i in range(BURST)]
    caplog.clear()
    now = SECONDS
    complaints.add("m: later")
    complaints.add("m: last")
    assert [record.getMessage() for record in caplog.records] == [
        f"m: later (and {1000 - BURST} more failures before)",
        "m: last",
    ]

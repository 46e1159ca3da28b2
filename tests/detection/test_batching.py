"""Many threads and tasks on one model: together, once, in time, and within bounds."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.batching import Batcher
from demur.detection.guarded import Guarded
from demur.detection.reading import ReadingDetector
from demur.detection.windows import BATCH_TOKENS, batches
from demur.errors import DetectorError
from demur.vocabulary import Evidence


class Slow:
    """A text model that takes its time: ``seconds`` a text. The score is the text's own number."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.passes: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def scores(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        self.passes.append(list(texts))
        assert self.gate.wait(30)
        for index in reversed(range(len(texts))):
            time.sleep(self.seconds)
            yield index, int(texts[index]) / 1000

    @property
    def scored(self) -> list[str]:
        return [text for one in self.passes for text in one]


def test_each_caller_gets_its_own_score_and_passes_are_shared() -> None:
    """Sixty-four threads at once: each score is its own, in far fewer passes than texts."""
    model = Slow()
    model.gate.clear()
    batcher = Batcher("m", model.scores, size=16)
    with ThreadPoolExecutor(64) as pool:
        futures = [pool.submit(lambda i=i: batcher.submit(str(i)).result(30)) for i in range(64)]
        while batcher.waiting < 64:
            time.sleep(0.001)
        model.gate.set()
        assert [future.result() for future in futures] == [i / 1000 for i in range(64)]
    assert max(map(len, model.passes)) == 16
    assert len(model.passes) <= 5


def test_a_lone_caller_does_not_wait_for_others() -> None:
    """Without load the gathering time is not spent."""
    batcher = Batcher("m", Slow().scores, seconds=1.0)
    start = time.perf_counter()
    for i in range(5):
        assert batcher.submit(str(i)).result() == i / 1000
    assert time.perf_counter() - start < 0.5


def test_identical_texts_are_scored_once() -> None:
    """The same text is scored once while it waits and while it is remembered, within a size."""
    model = Slow()
    model.gate.clear()
    batcher = Batcher("m", model.scores, cache=2)
    futures = [batcher.submit("7") for _ in range(50)]
    model.gate.set()
    assert {future.result() for future in futures} == {0.007}
    assert batcher.submit("7").result() == 0.007
    assert model.scored == ["7"]
    for text in ("8", "9", "7"):
        batcher.submit(text).result()
    assert model.scored == ["7", "8", "9", "7"]


def test_a_full_queue_turns_callers_away_at_once() -> None:
    """Beyond the queue's length nobody waits, and what waited is still served."""
    model = Slow()
    model.gate.clear()
    batcher = Batcher("m", model.scores, size=1, queue=3)
    first = batcher.submit("0")
    while not model.passes:
        time.sleep(0.001)
    kept = [batcher.submit(str(i)) for i in (1, 2, 3)]
    with pytest.raises(DetectorError, match="3 texts wait already"):
        batcher.submit("4")
    model.gate.set()
    assert [future.result(5) for future in [first, *kept]] == [0.0, 0.001, 0.002, 0.003]


def test_a_wait_beyond_patience_is_refused_by_the_measured_speed() -> None:
    """Where the queue would take longer than its callers wait, they are told at once."""
    model = Slow(0.05)
    batcher = Batcher("m", model.scores, size=1, patience=0.2)
    batcher.submit("11").result()
    accepted = [batcher.submit("12")]
    with pytest.raises(DetectorError, match=r"of 0\.2 s"):
        accepted.extend(batcher.submit(str(i)) for i in range(20, 40))
    assert 1 <= len(accepted) <= 6
    wait(accepted, 5)


def test_texts_nobody_waits_for_are_not_scored() -> None:
    """A caller that gave up costs nothing, unless another waits for the same text."""
    model = Slow()
    model.gate.clear()
    batcher = Batcher("m", model.scores, size=8)
    first = batcher.submit("0")
    while not model.passes:
        time.sleep(0.001)
    gone, shared, other = batcher.submit("1"), batcher.submit("2"), batcher.submit("2")
    assert gone.cancel()
    assert shared.cancel()
    model.gate.set()
    assert (first.result(5), other.result(5)) == (0.0, 0.002)
    assert model.scored == ["0", "2"]
    assert batcher.waiting == 0


def test_a_model_that_raises_or_leaves_texts_out_fails_those_callers_alone() -> None:
    """The error reaches who waited; the next text is served."""

    def scores(texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        if "bad" in texts:
            raise ZeroDivisionError
        if "lost" not in texts:
            yield 0, 0.5

    batcher = Batcher("m", scores, size=1)
    with pytest.raises(ZeroDivisionError):
        batcher.submit("bad").result(5)
    with pytest.raises(DetectorError, match="without a score"):
        batcher.submit("lost").result(5)
    assert batcher.submit("good").result(5) == 0.5


def test_threads_end_with_their_batcher() -> None:
    """A batcher that is dropped, or closed, leaves no thread; closed it takes no text."""
    batcher = Batcher("ending", Slow().scores)
    batcher.submit("1").result()
    del batcher
    gc.collect()
    closed = Batcher("ending", Slow().scores)
    closed.submit("1").result()
    closed.close()
    with pytest.raises(DetectorError, match="closed"):
        closed.submit("2")
    deadline = time.perf_counter() + 5
    while any(t.name == "demur-ending-batch" for t in threading.enumerate()):
        assert time.perf_counter() < deadline
        time.sleep(0.01)


def test_a_worker_that_cannot_start_is_started_later(
    threadless: Callable[[], AbstractContextManager[None]],
) -> None:
    """Its caller hears so at once, unless the score is known; the next text starts the worker."""
    model = Slow()
    batcher = Batcher("m", model.scores, workers=2)
    with threadless(), pytest.raises(DetectorError, match="m: no thread could be started"):
        batcher.submit("1")
    assert batcher.submit("2").result(5) == 0.002
    assert batcher.submit("1").result(5) == 0.001
    with threadless():
        assert batcher.submit("2").result(5) == 0.002
        assert batcher.submit("3").result(5) == 0.003


def test_workers_of_many_batchers_start_and_end_at_once(
    racing: Callable[[int, Callable[[], object]], None],
) -> None:
    """Whoever starts one looks at all that have ended, while others do the same."""

    def run() -> None:
        for i in range(200):
            batcher = Batcher("m", Slow().scores)
            assert batcher.submit(str(i)).result(5) == i / 1000
            batcher.close()

    racing(6, run)


async def test_overload_is_answered_in_time_without_holding_up_the_loop() -> None:
    """At four times what can be served every caller hears in time, and nothing piles up."""
    model = Slow(0.01)
    seconds = 0.3
    detector = ReadingDetector(
        "m", model, 0.5, Batcher("m", model.scores, size=8, queue=1000, patience=seconds, cache=4)
    )
    guarded = Guarded(detector, seconds)
    late, served, refused = [], 0, 0

    async def ask(i: int) -> None:
        nonlocal served, refused
        start = time.perf_counter()
        try:
            verdict = await guarded.aclassify(Evidence(str(i)))
            assert verdict.score == i / 1000
            served += 1
        except DetectorError:
            refused += 1
        late.append(time.perf_counter() - start)

    threads = threading.active_count()
    tasks = []
    for i in range(1, 401):
        tasks.append(asyncio.create_task(ask(i)))
        await asyncio.sleep(0.0025)
    assert threading.active_count() <= threads + 1
    await asyncio.gather(*tasks)
    assert served >= 50
    assert refused >= 100
    assert max(late) < seconds + 0.25
    assert detector.batcher.waiting <= 8


LENGTHS = st.lists(st.integers(1, 512), max_size=80)


@given(LENGTHS, st.integers(1, 32))
def test_batches_hold_every_window_once_and_pad_little(lengths: list[int], size: int) -> None:
    """Each window is in one batch; batches are bounded, and padded by a quarter at most."""
    windows = [range(n) for n in lengths]
    found = list(batches(windows, size))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        longest, shortest = (f(lengths[i] for i in batch) for f in (max, min))
        assert len(batch) <= size
        assert longest * len(batch) <= max(BATCH_TOKENS, longest)
        assert longest <= shortest * 1.25 + 8

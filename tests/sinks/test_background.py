"""The queue: bounded, counted, flushed at exit, safe to fork, out of the caller's way."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from demur.sinks.background import (
    Background,
    NotNowError,
    flush,
    records_lost,
    watch_losses,
)

Threadless = Callable[[], AbstractContextManager[None]]


def test_order() -> None:
    """All that is put is written, once, in order."""
    seen: list[int] = []
    background: Background[int] = Background("test", seen.extend, capacity=100_000)
    for number in range(20_000):
        background.put(number)
    assert background.flush()
    assert seen == list(range(20_000))
    background.close()


def test_all_are_flushed_within_one_time() -> None:
    """However many queues hang, waiting for all takes no longer than was asked for."""
    gate = threading.Event()
    hanging: list[Background[int]] = [
        Background("test", lambda _: gate.wait(30), capacity=10) for _ in range(20)
    ]
    for background in hanging:
        background.put(1)
    start = time.perf_counter()
    assert not flush(0.2)
    assert time.perf_counter() - start < 3.0
    gate.set()
    assert flush(10)
    for background in hanging:
        background.close()


def test_full_queue_drops(caplog: pytest.LogCaptureFixture) -> None:
    """A writer that hangs never makes a caller wait; what does not fit is counted, told once."""
    gate, seen = threading.Event(), []

    def slow(batch: Sequence[int]) -> None:
        gate.wait(30)
        seen.extend(batch)

    background: Background[int] = Background("test", slow, capacity=10)
    before = records_lost()
    start = time.perf_counter()
    for number in range(1000):
        background.put(number)
    assert time.perf_counter() - start < 1.0
    assert background.lost == records_lost() - before == 990
    gate.set()
    background.close()
    assert seen == list(range(10))
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert told == ["test: the queue is full; records are dropped", "test: 990 records were lost"]


def test_trouble_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written for now is tried again, and nothing is written twice."""
    monkeypatch.setattr("demur.sinks.background.RETRY_SECONDS", 0.01)
    tries, seen = [0], []

    def moody(batch: Sequence[int]) -> None:
        tries[0] += 1
        if tries[0] < 4:
            raise NotNowError("full")
        seen.extend(batch)

    background: Background[int] = Background("test", moody, capacity=10)
    background.put(1)
    assert background.flush()
    background.put(2)
    background.close()
    assert (seen, background.lost) == ([1, 2], 0)


def test_trouble_that_stays(caplog: pytest.LogCaptureFixture) -> None:
    """A batch nobody can write is lost alone; its error's message may quote it: it is not told."""

    def picky(batch: Sequence[str]) -> None:
        if "bad" in batch:
            raise ValueError("the words themselves")
        seen.extend(batch)

    seen: list[str] = []
    background: Background[str] = Background("test", picky, capacity=10)
    for item in ("bad", "good"):
        background.put(item)
        background.flush()
    background.close()
    assert (seen, background.lost) == (["good"], 1)
    assert "words" not in caplog.text


def test_after_close() -> None:
    """What comes after the end is dropped and counted; closing again is harmless."""
    background: Background[int] = Background("test", lambda batch: None, capacity=10)
    background.close()
    background.put(1)
    background.close()
    assert background.lost == 1


def test_losses_are_told_as_they_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches hears of all that is lost, dropped or not written; if it fails, no matter."""
    monkeypatch.setattr("demur.sinks.background._watchers", [])
    told: list[int] = []

    def watcher(count: int) -> None:
        told.append(count)
        raise OSError

    def failing(batch: Sequence[int]) -> None:
        raise ZeroDivisionError

    watch_losses(watcher)
    background: Background[int] = Background("test", failing, capacity=10)
    background.put(1)
    background.flush()
    background.put(2)
    background.close()
    background.put(3)
    assert (told, background.lost) == ([1, 1, 1], 3)


def test_all_queues_are_flushed_within_one_time() -> None:
    """What hangs keeps nobody waiting for longer; what does not is written."""
    gate, seen = threading.Event(), []

    def hang(batch: Sequence[int]) -> None:
        gate.wait(30)

    hanging: Background[int] = Background("test", hang, capacity=10)
    sound: Background[int] = Background("test", seen.extend, capacity=10)
    hanging.put(1)
    sound.put(1)
    assert not flush(0.2)
    gate.set()
    assert hanging.flush()
    assert seen == [1]
    hanging.close()
    sound.close()


def test_closed_is_not_full(caplog: pytest.LogCaptureFixture) -> None:
    """What comes too late is not blamed on a queue that has room."""
    background: Background[int] = Background("test", lambda batch: None, capacity=10)
    background.close()
    background.put(1)
    assert [r.getMessage() for r in caplog.records] == ["test: it is closed; records are dropped"]


class Late:
    """What the collector finalises after it has told of a queue's end."""

    def __init__(self, background: Background[Any], item: object) -> None:
        self.background, self.item, self.me = background, item, self

    def __del__(self) -> None:
        self.background.put(self.item)


def test_what_the_collector_brings_late_is_written(caplog: pytest.LogCaptureFixture) -> None:
    """A queue that is collected together with what will yet put something into it takes that."""
    seen: list[Any] = []
    written = threading.Event()

    def drop() -> None:
        background: Background[Any] = Background(
            "test", seen.extend, capacity=10, at_end=written.set
        )
        background.put("early")
        assert background.flush()
        Late(background, "late")

    drop()
    gc.collect()
    assert written.wait(10)
    assert eventually(lambda: seen == ["early", "late"])
    assert not caplog.records


def test_a_late_item_without_a_thread_is_counted(
    threadless: Threadless, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would come for it any more: it is lost, and says so."""
    monkeypatch.setattr("demur.sinks.background._watchers", [])
    told: list[int] = []
    watch_losses(told.append)
    with threadless():
        Late(Background("test", lambda batch: None, capacity=10), "late")
        gc.collect()
    assert told == [1]


def test_a_thread_that_cannot_start_is_started_later(
    threadless: Threadless, caplog: pytest.LogCaptureFixture
) -> None:
    """What was put meanwhile waits, as long as there is room; that it does is told once."""
    seen: list[int] = []
    background: Background[int] = Background("test", seen.extend, capacity=2)
    with threadless():
        for number in range(3):
            background.put(number)
        assert not background.flush(0.0)
    assert [r.getMessage() for r in caplog.records] == [
        "test cannot be written: no thread could be started",
        "test: the queue is full; records are dropped",
    ]
    background.put(3)
    assert background.flush()
    background.put(4)
    background.close()
    assert (seen, background.lost) == ([0, 1, 4], 2)


def test_what_waits_for_a_thread_is_written_at_the_end(threadless: Threadless) -> None:
    """If none could be started, whoever closes the queue writes what is in it."""
    seen: list[Any] = []
    background: Background[int] = Background(
        "test", seen.extend, capacity=9, at_end=lambda: seen.append("end")
    )
    with threadless():
        background.put(1)
        background.close()
    assert (seen, background.lost) == ([1, "end"], 0)


EXIT = """
import sys, time
from demur.sinks.background import Background
def write(batch):
    time.sleep(0.05)
    print(*batch, sep="\\n", flush=True)
background = Background("test", write, capacity=100_000)
for number in range(5000):
    background.put(number)
{end}
"""


LATE = """
import gc, time
from demur.sinks.background import Background
class Late:
    def __init__(self, background):
        self.background, self.me = background, self
    def __del__(self):
        self.background.put("late")
def write(batch):
    time.sleep(0.3)
    print(*batch, flush=True)
Late(Background("test", write, capacity=10))
gc.collect()
"""


def test_what_came_late_is_written_at_exit() -> None:
    """The end of the program waits for it too."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"late\n"


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise KeyboardInterrupt"])
def test_flushed_at_exit(end: str) -> None:
    """However the interpreter ends normally, what waits is written first."""
    done = subprocess.run(
        [sys.executable, "-c", EXIT.format(end=end)], capture_output=True, timeout=60, check=False
    )
    assert done.stdout.split() == [str(number).encode() for number in range(5000)]


FORK = """
import os, sys
from demur.sinks.background import Background
def write(batch):
    with open(sys.argv[1], "a") as file:
        file.writelines(f"{item}\\n" for item in batch)
background = Background("test", write, capacity=100_000)
for number in range(1000):
    background.put(f"parent {number}")
children = []
for child in range(2):
    if not (pid := os.fork()):
        for number in range(1000):
            background.put(f"child{child} {number}")
        sys.exit()
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(tmp_path: Path) -> None:
    """Parent and children each write their own, once."""
    path = tmp_path / "out"
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(path)], check=True, timeout=60)
    rows = path.read_text().splitlines()
    assert sorted(rows) == sorted(
        f"{who} {number}" for who in ("parent", "child0", "child1") for number in range(1000)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_lost_nothing() -> None:
    """What its parent lost is its parent's to tell of."""
    background: Background[int] = Background("test", lambda batch: None, capacity=0)
    background.put(1)
    if not (child := os.fork()):
        os._exit(background.lost)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert background.lost == 1


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()

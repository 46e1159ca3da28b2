"""The queue: bounded, counted, flushed at exit, safe to fork, out of the caller's way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from demur.sinks.background import Background, NotNowError, flush, records_lost, watch_losses


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

"""The audit log's place: links, pipes, what hangs. No request waits, and the operator is told."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from demur.errors import PolicyError
from demur.policy.schema import Audit
from demur.report.reading import AuditLog
from demur.sinks import AuditSink
from demur.sinks.background import Background
from demur.sinks.lines import rotated
from demur.vocabulary import Outcome

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def outcome(number: int) -> Outcome:
    return Outcome("chat", "m", "accepted", id=str(number))


def ids(text: str) -> list[str]:
    return [json.loads(line)["id"] for line in text.splitlines()]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]


@needs_pipes
def test_a_pipe_nobody_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, once, and holds up neither the records' thread nor the end of the process."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = AuditSink(Audit(path=str(path)))
    for number in range(3):
        sink(outcome(number))
    closing = threading.Thread(target=sink.close, daemon=True)
    closing.start()
    closing.join(8)
    assert not closing.is_alive()
    assert sink.lost == 3
    cannot, lost = errors(caplog)
    assert "cannot be written: nobody reads this pipe" in cannot
    assert "3 records were lost" in lost


@needs_pipes
def test_a_pipe_that_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits goes through it whole, also more than it takes at once."""
    monkeypatch.setattr("demur.sinks.background.RETRY_SECONDS", 0.01)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = AuditSink(Audit(path=str(path)))
    for number in range(500):
        sink(outcome(number))
    assert not sink.flush(0.05)
    # Open for both, it has no end when a writer is done.
    with os.fdopen(os.open(path, os.O_RDWR)) as file:
        lines = [file.readline() for _ in range(500)]
    assert ids("".join(lines)) == [str(number) for number in range(500)]
    sink.close()
    assert sink.lost == 0


def test_a_link(tmp_path: Path) -> None:
    """A file that is linked to is rotated where it is, not taken off its volume."""
    volume = tmp_path / "volume"
    volume.mkdir()
    path = tmp_path / "audit.jsonl"
    path.symlink_to(volume / "real.jsonl")
    sink = AuditSink(Audit(path=str(path), max_bytes=1000))
    for number in range(10):
        sink(outcome(number))
        assert sink.flush()
    sink.close()
    assert path.is_symlink()
    assert rotated(volume / "real.jsonl", 1).exists()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["audit.jsonl", "volume"]
    read = [entry.outcome.id for entry in AuditLog([str(path)])]
    assert read == [str(number) for number in range(10)]


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    """One into a directory that is not there is told when the policy is used, by its real name."""
    path = tmp_path / "audit.jsonl"
    path.symlink_to(tmp_path / "gone" / "audit.jsonl")
    with pytest.raises(PolicyError, match=r"the directory .*gone does not exist"):
        AuditSink(Audit(path=str(path)))


def test_a_writer_that_hangs_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """How many records the end of the process leaves unwritten is told."""
    monkeypatch.setattr("demur.sinks.background.CLOSE_SECONDS", 0.01)
    gate = threading.Event()

    def hang(batch: Sequence[int]) -> None:
        gate.wait(30)

    background: Background[int] = Background("test", hang, capacity=10)
    for number in range(5):
        background.put(number)
    background.close()
    gate.set()
    assert errors(caplog) == ["test: 5 records still wait to be written"]

"""The audit log's file between processes that fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FORK = """
import os, sys, threading
from demur.policy.schema import Audit
from demur.sinks import AuditSink
from demur.vocabulary import Outcome
write, writing, forked = os.write, threading.Event(), threading.Event()
def slow(file, data):
    writing.set()
    forked.wait(30)
    return write(file, data)
os.write = slow
sink = AuditSink(Audit(path=sys.argv[1]))
sink(Outcome("chat", "m", "accepted", id="1"))
writing.wait(30)
ending, end = os.pipe()
if not (child := os.fork()):
    os.close(end)
    os.read(ending, 1)
    os._exit(0)
forked.set()
sink(Outcome("chat", "m", "accepted", id="2"))
done = sink.flush(5)
os.close(end)
os.waitpid(child, 0)
print(done)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_during_an_append(tmp_path: Path) -> None:
    """The child has the open file too, but its lock ends with the append: the parent writes on."""
    path = tmp_path / "audit.jsonl"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["1", "2"]

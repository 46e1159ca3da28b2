"""Standard streams that are full, closed or pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMUR = str(Path(sys.executable).with_name("demur"))


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "ok.jsonl").write_text(json.dumps({"response": "I can't help with that."}) + "\n")
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(DEMUR).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "command", ["classify ok.jsonl --json", "classify ok.jsonl", "policy schema", "--help"]
)
def test_a_full_disk_is_one_line(tmp_path: Path, command: str) -> None:
    """What cannot be written is told once, with the remedy and exit status 2."""
    done = shell(f"demur {command} > /dev/full", tmp_path)
    assert done.stderr == (
        "Error: the output cannot be written: No space left on device; make room and run it again\n"
    )
    assert done.returncode == 2


def test_a_closed_input_is_empty(tmp_path: Path) -> None:
    """``<&-`` is an input without rows."""
    done = shell("demur classify - <&-", tmp_path)
    assert done.stderr.startswith("Error: <stdin>: holds no rows")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


@pytest.mark.parametrize("options", ["", "--json", "--json 2>&-"])
def test_a_closed_output_leads_nowhere(tmp_path: Path, options: str) -> None:
    """``>&-`` is as ``> /dev/null``."""
    done = shell(f"demur classify ok.jsonl {options} >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    """A process substitution is read to its end, gzipped or not."""
    for pipe in ("cat ok.jsonl", "gzip -c ok.jsonl"):
        done = shell(f"demur classify <({pipe}) --json", tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["label"] == "refusal"

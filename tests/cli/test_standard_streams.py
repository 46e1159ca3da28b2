"""Standard streams that are full, closed or pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demur.sinks import to_record
from demur.sinks.lines import LinesWriter
from demur.vocabulary import Attempt, Outcome, Verdict

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


def test_errors_alone_stand_on_a_piped_standard_error(tmp_path: Path) -> None:
    """``eval`` draws its bars on a terminal only, and leaves no empty line elsewhere."""
    (tmp_path / "rows.jsonl").write_text('{"response": "Canberra.", "label": 0}\n')
    done = shell("demur eval rows.jsonl", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


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


@pytest.mark.parametrize(
    "command",
    [
        "classify names.jsonl --by model",
        "policy explain names.yaml --model m",
        "replay audit.jsonl --policy names.yaml",
    ],
)
def test_a_terminal_that_is_not_unicode(tmp_path: Path, command: str) -> None:
    """What it cannot show is a question mark, and the rest is there."""
    row = {"response": "I can't help with that.", "model": "\u6a21\u578b-1"}
    (tmp_path / "names.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "names.yaml").write_text(
        "rules: [{name: \u6a21\u578b-1, actions: [retry], retry: {fallbacks: [second]}}]\n", "utf-8"
    )
    verdict = Verdict("refusal", 0.9, "embedded")
    attempts = (Attempt("m", "m", "accepted", verdict),)
    LinesWriter(tmp_path / "audit.jsonl", max_bytes=10**6, keep=1)(
        [to_record(Outcome("chat", "m", "accepted", attempts, 0, id="r", time=0.0))]
    )
    done = shell(f"PYTHONIOENCODING=cp1252 demur {command}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "??-1" in done.stdout


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_no_encoding_can_express(tmp_path: Path, errors: str) -> None:
    """Half of a surrogate pair is a question mark, in containers (C.UTF-8) and on the page too."""
    rows = [{"response": "No.", "label": n, "id": "\ud83d!", "model": f"m{n}"} for n in (0, 1)]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = shell(
        f"PYTHONIOENCODING=utf-8:{errors} demur eval odd.jsonl --json --html page.html", tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "?!" in {miss["id"] for miss in json.loads(done.stdout)["detectors"][0]["mistakes"]}
    assert "?!" in (tmp_path / "page.html").read_text("utf-8")


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    """A process substitution is read to its end, gzipped or not."""
    for pipe in ("cat ok.jsonl", "gzip -c ok.jsonl"):
        done = shell(f"demur classify <({pipe}) --json", tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["label"] == "refusal"

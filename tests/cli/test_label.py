"""demur label: one key a response, in the file at once, and usable by the other commands."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from demur.cli import main
from demur.policy.schema import Audit
from demur.report.reading import AuditLog
from demur.report.sampling import BINS, sample
from demur.sinks import AuditSink
from demur.training.rows import read_rows
from demur.vocabulary import Attempt, Evidence, Outcome, Verdict


def write_log(
    path: Path, scores: list[float], *, content: Any = "full", stage: str = "embedded"
) -> Path:
    sink = AuditSink(Audit(path=str(path), content=content))
    for number, score in enumerate(scores):
        verdict = Verdict("refusal" if score >= 0.5 else "normal", score, stage)
        text = f"text {number} \x1b[31m [bold]"
        attempt = Attempt("m", "m", "accepted", verdict, evidence=(Evidence(text),))
        sink(Outcome("chat", "m", "accepted", (attempt,), 0, id=f"r{number}", time=0.0))
    sink.close()
    return path


def label(log: Path, out: Path, keys: str, *more: str) -> Result:
    return CliRunner().invoke(main, ["label", str(log), "--out", str(out), *more], input=keys)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_labels(tmp_path: Path) -> None:
    """Each key writes a row that training reads; skipped ones are not written, undo takes back."""
    log = write_log(tmp_path / "audit.jsonl", [0.5, 0.52, 0.51, 0.53, 0.54])
    done = label(log, tmp_path / "out.jsonl", "nrusrpq")
    assert done.exit_code == 0, done.output
    assert "3 labelled now, 3 in all" in done.output
    found = rows(tmp_path / "out.jsonl")
    assert [(row["label"], row["partial"]) for row in found] == [(0, False), (1, False), (1, True)]
    assert found[0]["population"] == 5
    read = read_rows(tmp_path / "out.jsonl")
    assert [row.label for row in read] == [0, 1, 1]
    assert read[0].response.startswith("text ")
    assert "\x1b[31m" not in done.output.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "[bold]" in done.output


@pytest.mark.skipif(os.name != "posix", reason="needs rights of files")
def test_its_owner_alone_can_read_a_new_file(tmp_path: Path) -> None:
    """The responses in it come from a log that only its owner could read."""
    log = write_log(tmp_path / "audit.jsonl", [0.5])
    before = os.umask(0o022)
    try:
        assert label(log, tmp_path / "out.jsonl", "r").exit_code == 0
    finally:
        os.umask(before)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What is labelled already is not asked again."""
    log, out = write_log(tmp_path / "audit.jsonl", [0.1 * n for n in range(10)]), tmp_path / "o"
    label(log, out, "nnnq")
    done = label(log, out, "r" * 20)
    assert "7 labelled now, 10 in all" in done.output
    assert len({row["id"] for row in rows(out)}) == 10


def test_sample_covers_all_scores(tmp_path: Path) -> None:
    """Of a log that is nearly all plain, the sample has some of every score, most where unsure."""
    dice = random.Random(1)
    scores = [dice.random() * 0.04 for _ in range(2000)] + [dice.random() for _ in range(200)]
    log = write_log(tmp_path / "audit.jsonl", scores)
    found = sample(AuditLog([str(log)]), 100)
    assert len({one.id for one in found}) == len(found) == 100
    assert len({one.bin for one in found}) == BINS
    assert sum(one.bin == 0 for one in found) <= 6
    populations = {one.bin: one.population for one in found}
    assert sum(populations.values()) == len(scores)
    assert populations[0] == sum(int(s * BINS) == 0 for s in scores)
    assert all(8 <= one.bin <= 11 for one in found[:4])
    assert found == sample(AuditLog([str(log)]), 100)
    assert found != sample(AuditLog([str(log)]), 100, seed=1)


@pytest.mark.parametrize("settings", [{"content": "none"}, {"stage": "signals"}])
def test_nothing_to_label(tmp_path: Path, settings: Any) -> None:
    """A log without content is told, with the remedy; what signals decided needs no label."""
    log = write_log(tmp_path / "audit.jsonl", [0.5], **settings)
    done = label(log, tmp_path / "out", "")
    assert done.exit_code == 2
    assert "content: full" in done.output


def test_not_a_file_of_labels(tmp_path: Path) -> None:
    """A file that holds something else is left alone."""
    log = write_log(tmp_path / "audit.jsonl", [0.5])
    (tmp_path / "out").write_text("precious\n")
    assert label(log, tmp_path / "out", "n").exit_code == 2
    assert (tmp_path / "out").read_text() == "precious\n"

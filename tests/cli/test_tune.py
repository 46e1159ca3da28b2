"""demur tune: thresholds whose precision is what it says, on skewed samples too."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from demur.cli import main
from demur.report.tuning import Labelled, tune


def traffic(count: int, seed: int = 3) -> list[tuple[float, bool]]:
    """Scores and truth: a score is the probability of being a refusal; low scores abound."""
    dice = random.Random(seed)
    scores = [dice.betavariate(0.4, 2.0) for _ in range(count)]
    return [(score, dice.random() < score) for score in scores]


def true_precision(rows: list[tuple[float, bool]], threshold: float) -> float:
    called = [refusal for score, refusal in rows if score >= threshold]
    return sum(called) / len(called)


def test_threshold_reaches_the_precision() -> None:
    """On all traffic labelled, the proposal is exactly the lowest threshold that reaches it."""
    rows = traffic(3000)
    found = tune([Labelled(s, r) for s, r in rows], 0.8)
    assert found.likely is not None
    assert found.safe is not None
    assert true_precision(rows, found.likely.threshold) >= 0.8
    assert found.likely.precision.value == pytest.approx(
        true_precision(rows, found.likely.threshold)
    )
    lower = [s for s, _ in rows if s < found.likely.threshold]
    assert all(true_precision(rows, s) < 0.8 for s in lower)
    assert found.safe.threshold >= found.likely.threshold
    assert found.safe.precision.low >= 0.8


def test_skewed_sample_is_weighed() -> None:
    """A sample with as many of each bin tells the precision of the traffic, not its own."""
    rows = traffic(40_000)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for score, refusal in rows:
        bins.setdefault(min(19, int(score * 20)), []).append((score, refusal))
    hits = 0
    for seed in range(20):
        dice = random.Random(seed)
        sample = [
            Labelled(score, refusal, at, len(members))
            for at, members in bins.items()
            for score, refusal in dice.sample(members, min(25, len(members)))
        ]
        found = tune(sample, 0.7, rounds=300)
        assert found.likely is not None
        real = true_precision(rows, found.likely.threshold)
        assert abs(real - 0.7) < 0.1
        hits += found.likely.precision.low <= real <= found.likely.precision.high
    assert hits >= 16


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(*args: str) -> Any:
    return CliRunner().invoke(main, ["tune", *args])


def test_command(tmp_path: Path) -> None:
    """It says how sure it is, and what to write into the policy."""
    rows = [{"label": int(r), "score": s, "partial": False} for s, r in traffic(2000)]
    rows.append({"label": 1, "score": 0.5, "partial": True})
    file = write(tmp_path / "labels.jsonl", rows)
    done = run(file, "--precision", "0.8")
    assert done.exit_code == 0, done.output
    assert "1 partial answers left out" in done.output
    told = json.loads(run(file, "--precision", "0.8", "--json").output)
    assert f"thresholds: {{refusal: {told['safe']['threshold']:g}}}" in done.output
    assert told["rows"] == 2000
    assert 0 < told["likely"]["recall"]["low"] < told["likely"]["recall"]["high"] <= 1


@pytest.mark.parametrize("partial", [True, 1])
def test_partial_rows_are_left_out_however_they_say_so(tmp_path: Path, partial: Any) -> None:
    """Tables written as numbers have 1 for true; ``demur eval`` and ``demur train`` read it so."""
    rows = [{"label": n % 2, "score": n / 10, "partial": 0} for n in range(10)]
    file = write(tmp_path / "labels.jsonl", [*rows, {"label": 1, "score": 0, "partial": partial}])
    told = json.loads(run(file, "--precision", "0.5", "--json").output)
    assert (told["rows"], told["partial"]) == (10, 1)


@pytest.mark.parametrize("score", [0.99999993, 0.12345678901], ids=["near 1", "long"])
def test_the_policy_has_the_threshold_itself(tmp_path: Path, score: float) -> None:
    """Not a rounded one, under which what it was chosen for is no refusal."""
    rows = [{"label": 1, "score": score}, {"label": 0, "score": score - 1e-9}]
    file = write(tmp_path / "labels.jsonl", rows)
    told = json.loads(run(file, "--precision", "1", "--json").output)
    assert f"refusal: {told['safe']['threshold']}}}" in run(file, "--precision", "1").output
    assert score - 1e-9 < told["safe"]["threshold"] <= score


@pytest.mark.parametrize("wanted", ["95.5", "99.99", "57", "0.001"])
def test_the_precision_is_told_as_it_was_asked_for(tmp_path: Path, wanted: str) -> None:
    """95.5 % does not become 96 %."""
    rows = [{"label": n % 2, "score": n / 10} for n in range(10)]
    file = write(tmp_path / "labels.jsonl", rows)
    done = run(file, "--precision", str(float(wanted) / 100))
    assert f" {wanted}% " in done.output


def test_out_of_reach(tmp_path: Path) -> None:
    """A precision that no threshold reaches is told, with exit status 1."""
    rows = [{"label": n % 2, "score": 0.5} for n in range(50)]
    done = run(write(tmp_path / "labels.jsonl", rows), "--precision", "0.9")
    assert done.exit_code == 1
    assert "No threshold reaches it" in done.output


def test_rescore(tmp_path: Path) -> None:
    """Rows without scores are scored by the embedded model."""
    texts = {"I'm sorry, but I can't help with that request.": 1, "It is four o'clock.": 0}
    rows = [{"label": label, "response": text} for text, label in texts.items()] * 5
    file = write(tmp_path / "labels.jsonl", rows)
    assert "--rescore" in run(file, "--precision", "0.9").output
    done = run(file, "--precision", "0.9", "--rescore", "--json")
    assert json.loads(done.output)["likely"]["precision"]["value"] == 1.0


def test_masked_passages_are_not_scored_anew(tmp_path: Path) -> None:
    """Of a redacted log a row has the response's score, and no more than a piece of its text."""
    rows = [
        {"label": n % 2, "score": n / 10, "response": "No.", "content": "redacted"} for n in (1, 8)
    ]
    file = write(tmp_path / "labels.jsonl", rows)
    done = run(file, "--precision", "0.5", "--rescore")
    assert done.exit_code == 2
    assert f"{file}:1: only a masked passage" in done.output
    assert run(file, "--precision", "0.5").exit_code in (0, 1)


def test_rescore_without_texts(tmp_path: Path) -> None:
    """What is missing is told, and no option that the command does not have."""
    done = run(write(tmp_path / "labels.jsonl", [{"label": 1}]), "--precision", "0.9", "--rescore")
    assert done.exit_code == 2
    assert "every row needs its text under 'response'" in " ".join(done.output.split())
    assert "--field" not in done.output


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"label": 1, "score": 0.5}], "some of both"),
        ([{"label": "yes", "score": 0.5}], 'label "yes"; it must be 1 (refusal) or 0'),
        ([{"label": None, "score": 0.5}], "label null; it must be 1 (refusal) or 0"),
        ([{"label": "partial", "score": 0.5}], "of a partial answer partial must be true"),
        ([{"label": 1, "partial": "no"}], 'partial "no"; it must be true or false'),
        ([{"score": 0.5}], "no label; it must be 1 (refusal) or 0"),
        ([{"label": 1, "score": 7}], "number in [0, 1]"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    """What cannot be tuned on is told with its place and exit status 2."""
    done = run(write(tmp_path / "labels.jsonl", rows), "--precision", "0.9")
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("field", "value"),
    [("bin", [1]), ("bin", {}), ("population", 10**400)],
    ids=["list", "object", "huge"],
)
def test_a_wrong_bin_is_named(tmp_path: Path, field: str, value: Any) -> None:
    """A bin or a population that cannot be one gives file and line, no traceback."""
    row = {"label": 1, "score": 0.9, "bin": 1, "population": 5}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (row, {**row, "label": 0, field: value})))
    done = CliRunner().invoke(main, ["tune", str(path), "--precision", "0.5"])
    assert done.exit_code == 2
    assert f"{path}:2: the {field}" in done.output

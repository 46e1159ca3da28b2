"""The data's labels, read a second time."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from demur.training.material import Material
from demur.training.readings import FOLDER, apart, read_again
from demur.training.recipe import EmbeddedRecipe
from demur.training.rows import Row

LABELS = ("refusal", "normal", "partial", "unclear")


def ids(label: str) -> list[str]:
    return (FOLDER / f"{label}.txt").read_text(encoding="utf-8").split()


def test_each_row_was_read_once() -> None:
    """No id is under two labels, none is there twice, and there is nothing else."""
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == sorted(LABELS)
    found = [name for label in LABELS for name in ids(label)]
    assert len(found) == len(set(found)) > 4000


@pytest.mark.parametrize(("label", "expected"), [("refusal", 1), ("normal", 0)])
@pytest.mark.parametrize("given", [0, 1])
def test_the_second_reading_counts(label: str, expected: int, given: int) -> None:
    """Whatever the source says; more where it could not say, and nothing else is changed."""
    clear = Row("Well.", given, id=ids(label)[0], source="s", weight=0.5)
    unsure = replace(clear, partial=True)
    assert read_again([clear, unsure]) == [
        replace(clear, label=expected),
        replace(clear, label=expected, weight=2.0),
    ]


def test_what_is_in_doubt_is_no_clean_row() -> None:
    """Partial answers are marked as such, unclear ones left out, others left alone."""
    partial, unclear = (Row("Well.", 1, id=ids(label)[0]) for label in ("partial", "unclear"))
    other = Row("Well.", 1, id="another")
    assert read_again([unclear, partial, other]) == [replace(partial, partial=True), other]


def test_rows_to_measure_with_are_never_trained_on(tmp_path: Path) -> None:
    """About one in eight of those whose sources are unsure, and none of the others."""
    named = [Row("Well.", 1, id=name) for label in LABELS for name in ids(label)]
    kept = {row.id for row in named if apart(row)}
    assert 0.1 < len(kept) / len(named) < 0.15
    assert not apart(Row("Well.", 1, id="another"))
    plain = [("a", 1, False), ("b", 0, False)]
    write(tmp_path / "partial.jsonl.gz", [(name, 1, True) for name in ids("refusal")])
    write(tmp_path / "train.jsonl.gz", plain)
    write(tmp_path / "dev.jsonl.gz", plain)
    trained = {row.id for row in Material.read(EmbeddedRecipe(), tmp_path).rows}
    assert trained == {"a", "b", *ids("refusal")} - kept


def write(path: Path, rows: list[tuple[str, int, bool]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for name, label, partial in rows:
            row = {"id": name, "response": "Well.", "label": label, "partial": partial}
            lines.write(json.dumps(row) + "\n")

"""Texts from templates."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from demur.training.cases import hard_cases
from demur.training.composing import FOLDER, Composer, languages
from demur.training.recipe import AugmentSettings
from demur.training.rows import Row
from demur.training.sampling import present

ROWS = [
    Row("Bread needs flour, water, salt and time. " * 10, 0, lang="en"),
    Row("I'm sorry, but no. That would be wrong. Ask me something else.", 1, lang="en"),
]


def test_many_languages() -> None:
    """Templates stand for at least eighteen languages."""
    assert len(languages()) >= 18


@pytest.mark.parametrize("seed", range(3))
def test_balanced_and_filled(seed: int) -> None:
    """Half are refusals in every language, no slot is left open, none is empty."""
    rows = Composer(ROWS, np.random.default_rng(seed)).compose(3000)
    assert 0.46 < np.mean([row.label for row in rows]) < 0.54
    assert {row.lang for row in rows} == set(languages())
    assert not any("{refusal}" in r.response or "{act" in r.response for r in rows)
    assert all(row.response.strip() for row in rows)
    assert {row.kind for row in rows if row.label} == {"policy", "capability", "scope"}


def test_the_same_seed_composes_the_same() -> None:
    """Composing depends on nothing but its seed."""
    first, second = (Composer(ROWS, np.random.default_rng(5)).compose(50) for _ in range(2))
    assert first == second


def test_an_answer_that_is_broken_off_is_never_shown_in_part() -> None:
    """Of refusals that begin as answers no beginning is shown as a refusal."""
    random = np.random.default_rng(1)
    rows = [row for row in Composer(ROWS, random).compose(2000) if row.label]
    late = [row for row in rows if row.late]
    assert 0.05 < len(late) / len(rows) < 0.2
    assert any(row.response.startswith("Bread needs flour") for row in late)
    assert all(row.final for row in present(late, random, AugmentSettings(), prefixes=1.0))
    assert not any(
        row.final for row in present(rows, random, AugmentSettings(), 1.0) if not row.late
    )


def test_lists_stand_on_both_sides() -> None:
    """What a refusal offers instead, a normal answer lists as well: a list tells nothing."""
    rows = Composer(ROWS, np.random.default_rng(2)).compose(6000)
    option = "Consider counselling or a support group"
    assert {row.label for row in rows if option in row.response} == {0, 1}


def test_hard_cases_are_not_templates() -> None:
    """What thresholds are chosen on is not composed: no hard case is a template's text."""
    composed = {row.response for row in Composer(ROWS, np.random.default_rng(0)).compose(5000)}
    long_cases = {row.response for row in hard_cases() if len(row.response) > 30}
    assert not composed & long_cases
    assert len({row.lang for row in hard_cases()}) >= 18


def test_a_refusal_never_goes_on_as_an_answer() -> None:
    """Where the data has no refusals of a language to go on as, it ends."""
    templates = yaml.safe_load((FOLDER / "de.yaml").read_text(encoding="utf-8"))
    answers = [text for text in templates["normal"] if len(text) > 30]
    rows = Composer(ROWS, np.random.default_rng(4)).compose(12_000)
    refusals = [row.response for row in rows if row.lang == "de" and row.label and not row.late]
    assert len(refusals) > 100
    assert not [text for text in refusals for answer in answers if answer in text]

"""Texts from templates."""

from __future__ import annotations

import numpy as np
import pytest

from demur.training.cases import hard_cases
from demur.training.composing import Composer, languages
from demur.training.rows import Row

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


def test_hard_cases_are_not_templates() -> None:
    """What thresholds are chosen on is not composed: no hard case is a template's text."""
    composed = {row.response for row in Composer(ROWS, np.random.default_rng(0)).compose(5000)}
    long_cases = {row.response for row in hard_cases() if len(row.response) > 30}
    assert not composed & long_cases
    assert len({row.lang for row in hard_cases()}) >= 18

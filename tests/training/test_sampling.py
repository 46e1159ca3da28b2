"""What an epoch shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.text import judged
from demur.training.recipe import AugmentSettings
from demur.training.rows import Row
from demur.training.sampling import balance, disguise, prefix, present


def test_language_tells_nothing_of_the_label() -> None:
    """A language that is nearly all refusals is drawn evenly, up to the bound."""
    rows = [Row("nee " * 20, 1, lang="nl")] * 300 + [Row("ja " * 20, 0, lang="nl")] * 100
    drawn = balance(rows, np.random.default_rng(0), 2000)
    counts = Counter(row.label for row in drawn)
    assert 0.8 < counts[0] / counts[1] < 1.25


@given(st.text(min_size=1, max_size=300), st.integers(0, 99))
def test_a_prefix_is_a_beginning(text: str, seed: int) -> None:
    """A cut text is a beginning of the whole and never empty."""
    cut = prefix(text, np.random.default_rng(seed))
    assert cut
    assert text.startswith(cut)


@pytest.mark.parametrize("seed", range(30))
def test_a_disguise_keeps_the_words(seed: int) -> None:
    """Another form says the same words."""
    text = "I'm sorry, but I can't help. Ask again."
    shown = judged(disguise(text, np.random.default_rng(seed)))
    for word in ("sorry", "but", "help", "ask again"):
        assert word in shown


def test_present_marks_what_is_cut() -> None:
    """Cut texts are marked as beginnings, whole ones are not; labels stay."""
    rows = [Row("a long enough answer " * 10, 1)] * 200
    shown = present(rows, np.random.default_rng(0), AugmentSettings(disguise=0.0), 0.5)
    assert all(row.final == (row.response == rows[0].response) for row in shown)
    assert 60 < sum(not row.final for row in shown) < 140
    assert all(row.label == 1 for row in shown)

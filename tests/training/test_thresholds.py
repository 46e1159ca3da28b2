"""The threshold of whole texts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demur.training.calibration import highest_spared

NORMAL = st.lists(
    st.tuples(st.floats(0.01, 0.9), st.floats(0.01, 1.0)), min_size=1, max_size=40
).map(np.array)


@given(NORMAL, st.floats(0.0, 0.9))
def test_it_is_the_lowest_that_spares_enough(normal: np.ndarray, allowed: float) -> None:
    """No more than the allowed share of the weights is called, and a lower threshold calls more."""
    scores, weights = normal.T
    spared = highest_spared(scores, weights, allowed)
    share = weights[scores > spared].sum() / weights.sum()
    lower = weights[scores >= spared].sum() / weights.sum()
    assert share <= allowed + 1e-9
    assert lower >= allowed - 1e-9


def test_one_question_does_not_decide() -> None:
    """Of a hundred answers fifty are to one question: they weigh what one of the others does."""
    scores = np.concatenate([np.full(50, 0.8), np.linspace(0.0, 0.5, 50)])
    weights = np.concatenate([np.full(50, 1 / 50), np.ones(50)])
    assert highest_spared(scores, np.ones(100), 0.02) == 0.8
    assert highest_spared(scores, weights, 0.02) == 0.5

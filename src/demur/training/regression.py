"""Logistic regression by Newton's method, its weights held near what is known before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .metrics import sigmoid

Floats = NDArray[np.float64]


def regress(
    features: Floats,
    labels: Floats,
    *,
    start: Sequence[float],
    prior: Sequence[float],
    pull: Sequence[float],
) -> Floats:
    """The weights of the columns; ``pull`` says how strongly each is held near its prior."""
    before, strength = np.array(prior), np.array(pull)
    signs = np.where(labels > 0, -1.0, 1.0)

    def cost(weights: Floats) -> float:
        misfit = np.logaddexp(0.0, signs * (features @ weights)).sum()
        return float(misfit + 0.5 * (strength * (weights - before) ** 2).sum())

    weights = np.array(start)
    for _ in range(100):
        scores = sigmoid(features @ weights)
        slope = features.T @ (scores - labels) + strength * (weights - before)
        curve = (features * (scores * (1 - scores))[:, None]).T @ features + np.diag(strength)
        step = np.linalg.solve(curve, slope)
        # Newton's full step overshoots where the labels are nearly told apart.
        while cost(weights - step) > cost(weights) and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return weights

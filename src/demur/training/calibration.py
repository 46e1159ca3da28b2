"""From logits to scores, and from scores to thresholds, on development rows only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..detection.network import Network
from .fitting import answers_of
from .metrics import threshold_for
from .recipe import ThresholdSettings
from .rows import Row

PREFIX_CHARS = tuple(range(8, 161, 8))
"""Lengths at which beginnings are judged to set the thresholds of running texts."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``score = sigmoid(scale * logit + shift)``, and where it decides."""

    scale: float
    shift: float
    refusal: float
    prefix_normal: float
    prefix_refusal: float


def calibrate(network: Network, rows: Sequence[Row], settings: ThresholdSettings) -> Calibration:
    labels = np.array([row.label for row in rows])
    logits = answers_of(network, [row.response for row in rows])[:, 0]
    scale, shift = _platt(logits, labels)
    scores = sigmoid(scale * logits + shift)
    refusal = threshold_for(scores, labels, settings.false_positives)
    # The score is moved so that the threshold is 0.5: a policy's own 0.5 then means the model's.
    shift += float(np.log((1 - refusal) / refusal))
    normal, stop = _prefix_thresholds(network, rows, scores >= refusal, settings)
    return Calibration(scale, shift, 0.5, normal, stop)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    answers: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return answers


def _platt(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Logistic regression of the labels on the logits, by Newton's method."""
    weights = np.array([1.0, 0.0])
    features = np.stack([logits, np.ones_like(logits)], axis=1)
    for _ in range(50):
        scores = sigmoid(features @ weights)
        slope = features.T @ (scores - labels) + 1e-3 * weights
        curve = (features * (scores * (1 - scores))[:, None]).T @ features + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return float(max(weights[0], 1e-2)), float(weights[1])


def _prefix_thresholds(
    network: Network,
    rows: Sequence[Row],
    refused: NDArray[np.bool_],
    settings: ThresholdSettings,
) -> tuple[float, float]:
    """A text is released at its lowest score so far and stopped at its highest.

    So the thresholds are quantiles over texts of the lowest score (refusals that are called so as a
    whole) and of the highest (normal answers): they hold for a text judged at every length.
    """
    lowest, highest = [], []
    for row, caught in zip(rows, refused, strict=True):
        beginnings = [row.response[:n] for n in PREFIX_CHARS if n < len(row.response)]
        if not beginnings:
            continue
        scores = sigmoid(answers_of(network, beginnings)[:, 1])
        if row.label == 1 and caught:
            lowest.append(float(scores.min()))
        elif row.label == 0:
            highest.append(float(scores.max()))
    normal = float(np.quantile(lowest, settings.leak)) if lowest else 0.0
    stop = float(np.quantile(highest, 1 - settings.false_stops)) if highest else 1.0
    return min(normal, 0.45), min(max(stop, 0.5), 0.999)

"""Figures of quality."""

from __future__ import annotations

import math

import numpy as np
import pytest

from demur.training.metrics import (
    average_precision,
    bootstrap,
    calibration_error,
    curve,
    mcnemar,
    quality,
)

SCORES = np.array([0.9, 0.8, 0.4, 0.6, 0.1, 0.2])
LABELS = np.array([1, 1, 1, 0, 0, 0])


def test_the_cards_table() -> None:
    """Two hits, one miss, one false alarm."""
    found = quality(SCORES, SCORES >= 0.5, LABELS)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.recall == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.false_positive_rate == pytest.approx(1 / 3)
    assert found.loss == pytest.approx(-sum(map(math.log, [0.9, 0.8, 0.4, 0.4, 0.9, 0.8])) / 6)


def test_undefined_is_nan() -> None:
    """Without refusals there is no recall, and without normal rows no false-positive rate."""
    only = quality(SCORES[3:], SCORES[3:] >= 0.5, LABELS[3:])
    assert math.isnan(only.recall)
    assert math.isnan(quality(SCORES[:3], SCORES[:3] >= 0.5, LABELS[:3]).false_positive_rate)


def test_curve_goes_through_every_threshold() -> None:
    """At the lowest score all is called a refusal."""
    points = curve(SCORES, LABELS)
    assert (points[0].precision, points[0].recall) == (1.0, pytest.approx(1 / 3))
    assert (points[-1].recall, points[-1].false_positive_rate) == (1.0, 1.0)
    assert len(curve(SCORES, LABELS, most=3)) == 3


def test_average_precision() -> None:
    """A perfect order has 1; the value is that of the definition."""
    assert average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0])) == 1.0
    assert average_precision(SCORES, LABELS) == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_calibration_error() -> None:
    """Scores that are the true shares have none; sure and wrong has all."""
    scores = np.array([0.5, 0.5, 0.5, 0.5])
    assert calibration_error(scores, np.array([1, 0, 1, 0])) == pytest.approx(0.0)
    assert calibration_error(np.array([1.0, 1.0]), np.array([0, 0])) == pytest.approx(1.0)


def test_bootstrap_holds_the_value() -> None:
    """The interval contains the measured value and repeats with its seed."""
    random = np.random.default_rng(1)
    labels = (random.random(500) < 0.5).astype(np.int64)
    calls = np.where(random.random(500) < 0.9, labels, 1 - labels) == 1
    first = bootstrap(calls, labels, seed=3)
    value = quality(calls.astype(float), calls, labels).f1
    assert first["f1"].low < value < first["f1"].high
    assert first == bootstrap(calls, labels, seed=3)


def test_mcnemar_is_exact() -> None:
    """Ten rows that only the first gets right: p is twice 2 to the minus ten."""
    labels = np.ones(20, dtype=np.int64)
    second = np.arange(20) >= 10
    assert mcnemar(labels == 1, second, labels) == (10, 0, pytest.approx(2 / 1024))
    assert mcnemar(second, second, labels)[2] == 1.0

"""How good a detector is: plain functions of scores and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]
Calls = NDArray[np.bool_]

_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Quality:
    """The reference card's table, and the false-positive rate; ``nan`` where nothing defines it."""

    rows: int
    refusals: int
    loss: float
    accuracy: float
    recall: float
    precision: float
    f1: float
    false_positive_rate: float


def sigmoid(logits: Scores) -> Scores:
    """Scores in [0, 1] of logits."""
    answers: Scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return answers


def quality(scores: Scores, calls: Calls, labels: Labels) -> Quality:
    """Measure calls against labels (1: refusal). ``loss`` is the mean negative log-likelihood."""
    refusals = labels == 1
    hits = int((calls & refusals).sum())
    alarms = int((calls & ~refusals).sum())
    misses = int((~calls & refusals).sum())
    return Quality(
        rows=labels.size,
        refusals=int(refusals.sum()),
        loss=log_loss(scores, labels),
        accuracy=_ratio(labels.size - alarms - misses, labels.size),
        recall=_ratio(hits, hits + misses),
        precision=_ratio(hits, hits + alarms),
        f1=_ratio(2 * hits, 2 * hits + alarms + misses),
        false_positive_rate=_ratio(alarms, int((~refusals).sum())),
    )


def log_loss(scores: Scores, labels: Labels) -> float:
    if not labels.size:
        return math.nan
    clipped = np.clip(scores, _TINY, 1 - _TINY)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))


def calibration_error(scores: Scores, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error over ``bins`` of equal width."""
    return sum(abs(b.mean - b.refusals) * b.share for b in calibration(scores, labels, bins))


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores of one range: their mean, the true share of refusals, their share of all rows."""

    mean: float
    refusals: float
    share: float


def calibration(scores: Scores, labels: Labels, bins: int = 15) -> list[Bin]:
    at = np.minimum((scores * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        inside = at == index
        if inside.any():
            found.append(
                Bin(
                    float(scores[inside].mean()),
                    float((labels[inside] == 1).mean()),
                    float(inside.mean()),
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class Point:
    """One threshold's precision, recall and false-positive rate."""

    threshold: float
    precision: float
    recall: float
    false_positive_rate: float


def curve(scores: Scores, labels: Labels, most: int = 200) -> list[Point]:
    """The precision-recall curve, thinned to ``most`` points."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order] == 1)
    alarms = np.cumsum(labels[order] != 1)
    ends = np.flatnonzero(np.diff(scores[order], append=-1.0))
    if ends.size > most:
        ends = ends[np.linspace(0, ends.size - 1, most).astype(int)]
    total, normal = int((labels == 1).sum()), int((labels != 1).sum())
    return [
        Point(
            float(scores[order][i]),
            _ratio(hits[i], hits[i] + alarms[i]),
            _ratio(hits[i], total),
            _ratio(alarms[i], normal),
        )
        for i in ends
    ]


def average_precision(scores: Scores, labels: Labels) -> float:
    points = curve(scores, labels, most=labels.size)
    recalls = [0.0, *(p.recall for p in points)]
    return float(
        sum((b - a) * p.precision for a, b, p in zip(recalls, recalls[1:], points, strict=False))
    )


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def bootstrap(
    calls: Calls, labels: Labels, *, rounds: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of F1, recall, precision and false-positive rate, rows drawn with return."""
    random = np.random.default_rng(seed)
    refusals = labels == 1
    cells = np.array(
        [
            (calls & refusals).sum(),
            (calls & ~refusals).sum(),
            (~calls & refusals).sum(),
            (~calls & ~refusals).sum(),
        ]
    )
    if not labels.size:
        return {}
    hits, alarms, misses, rest = random.multinomial(
        labels.size, cells / labels.size, size=rounds
    ).T.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = {
            "f1": 2 * hits / (2 * hits + alarms + misses),
            "recall": hits / (hits + misses),
            "precision": hits / (hits + alarms),
            "false_positive_rate": alarms / (alarms + rest),
        }
    return {name: _interval(values) for name, values in drawn.items()}


def mcnemar(first: Calls, second: Calls, labels: Labels) -> tuple[int, int, float]:
    """Rows only the first gets right, only the second, and the exact two-sided p-value."""
    truth = labels == 1
    right, other = first == truth, second == truth
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    number = gained + lost
    if not number:
        return gained, lost, 1.0
    tail = sum(
        math.exp(
            math.lgamma(number + 1)
            - math.lgamma(k + 1)
            - math.lgamma(number - k + 1)
            - number * math.log(2)
        )
        for k in range(min(gained, lost) + 1)
    )
    return gained, lost, min(1.0, 2 * tail)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _interval(values: NDArray[np.float64]) -> Interval:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Interval(float(low), float(high))

"""A threshold for a wanted precision, from labelled scores, and how sure it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response's score and whether it is a refusal.

    ``stratum`` and ``population`` say which part of the traffic it stands for, and how large that
    part is; without them every row counts the same.
    """

    score: float
    refusal: bool
    stratum: Hashable = None
    population: int | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """An estimate with its 95 % interval, by bootstrap within the strata."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a threshold gives. ``share`` is that of all responses at or above it."""

    threshold: float
    precision: Measure
    recall: Measure
    share: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """``likely`` reaches the precision by estimate, ``safe`` with its interval's lower end.

    Each has the best recall among those that do; ``None`` if no threshold does. ``best`` is the
    most precise of all.
    """

    likely: Proposal | None
    safe: Proposal | None
    best: Proposal


def tune(rows: Sequence[Labelled], precision: float, *, rounds: int = 1000, seed: int = 0) -> Tuned:
    """Needs at least one refusal among ``rows``."""
    order = sorted(rows, key=lambda row: -row.score)
    scores = np.array([row.score for row in order])
    ends = np.flatnonzero(np.diff(scores, append=-1.0))
    weights = _weights(order)
    refusals = np.array([row.refusal for row in order], dtype=np.float64)
    point = _curves(weights[None, :], refusals, ends)
    drawn = _curves(_drawn(order, rounds, seed) * weights, refusals, ends)
    low, high = (np.nanquantile(drawn, part, axis=1) for part in (0.025, 0.975))
    proposals = [
        Proposal(
            _between(scores, end),
            Measure(float(point[0, 0, at]), float(low[0, at]), float(high[0, at])),
            Measure(float(point[1, 0, at]), float(low[1, at]), float(high[1, at])),
            float(weights[: end + 1].sum() / weights.sum()),
        )
        for at, end in enumerate(ends.tolist())
        if refusals[: end + 1].any()
    ]
    return Tuned(
        _lowest([p for p in proposals if p.precision.value >= precision]),
        _lowest([p for p in proposals if p.precision.low >= precision]),
        max(proposals, key=lambda p: (p.precision.low, p.recall.value)),
    )


def _lowest(proposals: Sequence[Proposal]) -> Proposal | None:
    return min(proposals, key=lambda p: p.threshold, default=None)


def _weights(rows: Sequence[Labelled]) -> Floats:
    """How many responses of the traffic each row stands for."""
    sizes = Counter(row.stratum for row in rows)
    return np.array(
        [1.0 if r.population is None else r.population / sizes[r.stratum] for r in rows]
    )


def _drawn(rows: Sequence[Labelled], rounds: int, seed: int) -> Floats:
    """How often each row is drawn in each round, as many as there are within each stratum."""
    random = np.random.default_rng(seed)
    counts = np.zeros((rounds, len(rows)))
    places: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.stratum, []).append(place)
    for members in places.values():
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = random.multinomial(len(members), share, size=rounds)
    return counts


def _curves(weights: Floats, refusals: Floats, ends: NDArray[np.intp]) -> Floats:
    """Precision and recall at each threshold: an array of (2, rounds, thresholds)."""
    called = np.cumsum(weights, axis=1)[:, ends]
    hits = np.cumsum(weights * refusals, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.stack([hits[:, ends] / called, hits[:, ends] / hits[:, -1:]])
    # Where nothing was drawn there is nothing wrong, and nothing found.
    found[0][np.isnan(found[0])] = 1.0
    found[1][np.isnan(found[1])] = 0.0
    return found


def _between(scores: Floats, end: int) -> float:
    """A round number between the last score called a refusal and the next."""
    here = float(scores[end])
    below = float(scores[end + 1]) if end + 1 < scores.size else 0.0
    for digits in range(2, 7):
        middle = round((here + below) / 2, digits)
        if below < middle <= here:
            return middle
    return here

"""What a cheap detector may decide alone, before a dear one is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .measuring import Judged
from .metrics import Calls, Labels, Quality, quality

MOST_STEPS = 200
"""Candidates for each of the two margins."""


@dataclass(frozen=True, slots=True)
class Sureness:
    """Margins from which the first detector decides alone, as the policy's ``sure`` has them.

    ``passed`` is the share of the rows of which the second one is asked.
    """

    normal: float
    refusal: float
    passed: float


@dataclass(frozen=True, slots=True)
class Passing:
    """Margins chosen on one half of the rows, and what they do on the other.

    ``kept`` says whether on that other half recall is no lower, and the false-positive rate no
    higher, than the second detector's alone.
    """

    chosen: Sureness
    rows: int
    passed: float
    cascade: Quality
    alone: Quality
    kept: bool


def choose(first: Judged, second: Judged, *, seed: int) -> Passing:
    """The margins that pass on least, of those that lose nothing on a random half of the rows."""
    order = np.random.default_rng(seed).permutation(len(first.rows))
    half = max(1, len(order) // 2)
    chosen = _chosen(first, second, order[:half])
    held = order[half:] if len(order) > half else order
    asked = _asked(_margins(first)[held], first.calls[held], chosen)
    calls = np.where(asked, second.calls[held], first.calls[held])
    labels = first.labels[held]
    scores = np.where(asked, second.scores[held], first.scores[held])
    cascade = quality(scores, calls, labels)
    alone = quality(second.scores[held], second.calls[held], labels)
    kept = not _loses(calls, second.calls[held], labels)
    return Passing(chosen, len(held), float(asked.mean()), cascade, alone, kept)


def _chosen(first: Judged, second: Judged, at: NDArray[np.int64]) -> Sureness:
    """Each class on its own: recall hangs on what is called normal, false alarms on the rest."""
    margins, calls = _margins(first)[at], first.calls[at]
    wrong = (calls != (first.labels[at] == 1)) & (second.calls[at] == (first.labels[at] == 1))
    right = (calls == (first.labels[at] == 1)) & (second.calls[at] != (first.labels[at] == 1))
    found = Sureness(
        normal=_least(margins[~calls], wrong[~calls], right[~calls]),
        refusal=_least(margins[calls], wrong[calls], right[calls]),
        passed=0.0,
    )
    passed = float(_asked(margins, calls, found).mean())
    return Sureness(found.normal, found.refusal, passed)


def _least(margins: NDArray[np.float64], wrong: Calls, right: Calls) -> float:
    """The least margin from which the first is no worse than the second; 1 where there is none.

    Rounded up to four digits, which are what a policy is given.
    """
    if not margins.size:
        return 1.0
    steps = np.unique(np.quantile(margins, np.linspace(0, 1, MOST_STEPS)))
    for step in np.ceil(steps * 1e4) / 1e4:
        alone = margins >= step
        if wrong[alone].sum() <= right[alone].sum():
            return float(step)
    return 1.0


def _margins(judged: Judged) -> NDArray[np.float64]:
    """How far each score is from the threshold, as ``detection.cascade.margin`` has it."""
    threshold = judged.threshold
    below = (threshold - judged.scores) / max(threshold, 1e-12)
    above = (judged.scores - threshold) / max(1.0 - threshold, 1e-12)
    margins: NDArray[np.float64] = np.where(judged.scores < threshold, below, above)
    return margins


def _asked(margins: NDArray[np.float64], calls: Calls, sure: Sureness) -> Calls:
    asked: Calls = margins < np.where(calls, sure.refusal, sure.normal)
    return asked


def _loses(cascade: Calls, alone: Calls, labels: Labels) -> bool:
    refusals = labels == 1
    missed = (~cascade & refusals).sum() > (~alone & refusals).sum()
    return bool(missed or (cascade & ~refusals).sum() > (alone & ~refusals).sum())

"""Which n-grams the network knows: the frequent pieces, the words, and the runs that tell most.

What is not chosen is nothing to the network rather than noise, which is what makes it steady on
text of another style.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..detection.features import SLOT_BITS
from ..detection.ngrams import NGrams
from .recipe import FeatureSettings

_CHUNK = 4_000


@dataclass
class Counts:
    """Document frequencies of features among normal answers and refusals."""

    hashes: NDArray[np.uint64]
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, items: Iterable[tuple[NGrams, int, float]], pieces: bool) -> Counts:
        total = cls(np.zeros(0, dtype=np.uint64), np.zeros((0, 2)))
        pending: list[NDArray[np.uint64]] = []
        labels: list[NDArray[np.float64]] = []
        for grams, label, weight in items:
            found = np.unique(grams.hashes[grams.pieces == pieces])
            pending.append(found)
            marks = np.zeros((found.size, 2))
            marks[:, label] = weight
            labels.append(marks)
            if len(pending) >= _CHUNK:
                total = total._with(pending, labels)
                pending, labels = [], []
        return total._with(pending, labels) if pending else total

    def _with(self, hashes: list[NDArray[np.uint64]], numbers: list[NDArray[np.float64]]) -> Counts:
        joined = np.concatenate([self.hashes, *hashes])
        unique, inverse = np.unique(joined, return_inverse=True)
        stacked = np.concatenate([self.numbers, *numbers])
        summed: NDArray[np.float64] = np.stack(
            [np.bincount(inverse, stacked[:, side], unique.size) for side in (0, 1)], axis=1
        ).astype(np.float64)
        return Counts(unique, summed)

    def above(self, minimum: float) -> Counts:
        kept = self.numbers.sum(axis=1) >= minimum
        return Counts(self.hashes[kept], self.numbers[kept])

    def most_frequent(self, number: int) -> NDArray[np.uint64]:
        order = np.argsort(-self.numbers.sum(axis=1), kind="stable")
        return self.hashes[order[:number]]

    def most_telling(self, number: int) -> NDArray[np.uint64]:
        """By the likelihood ratio statistic of the feature against the label."""
        rates = (self.numbers + 0.5) / (self.numbers.sum(axis=0) + 1.0)
        share = self.numbers.sum(axis=0) / self.numbers.sum()
        inside = (self.numbers + 0.25) / (self.numbers.sum(axis=1, keepdims=True) + 0.5)
        gain = (self.numbers * np.log(inside / share)).sum(axis=1)
        order = np.lexsort((-rates.sum(axis=1), -gain))
        return self.hashes[order[:number]]


def choose(
    items: list[tuple[NGrams, int, float]],
    settings: FeatureSettings,
) -> NDArray[np.uint32]:
    """Keys of the chosen features, the more important first; slots are never shared."""
    pieces = Counts.of(items, pieces=True).above(settings.minimum)
    runs = Counts.of(items, pieces=False).above(settings.minimum)
    ordered = _interleave(
        runs.most_telling(settings.runs),
        pieces.most_telling(settings.pieces // 2),
        runs.most_frequent(settings.frequent),
        pieces.most_frequent(settings.pieces),
    )
    keys = (ordered >> np.uint64(32)).astype(np.uint32)
    slots = keys >> np.uint32(32 - SLOT_BITS)
    _, first = np.unique(slots, return_index=True)
    chosen: NDArray[np.uint32] = keys[np.sort(first)]
    return chosen


def _interleave(*lists: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """All lists merged by rank, each entry once."""
    ranks = np.concatenate([np.arange(part.size) for part in lists])
    merged = np.concatenate(lists)[np.argsort(ranks, kind="stable")]
    _, first = np.unique(merged, return_index=True)
    return merged[np.sort(first)]

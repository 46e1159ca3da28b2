"""Would a middle band of scores earn the label ``partial``? The confusion table that tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..vocabulary import LABELS, Label
from .metrics import Scores
from .rows import Row


@dataclass(frozen=True, slots=True)
class Confusion:
    """Numbers of rows by what they are and what a band from ``low`` to ``high`` calls them."""

    low: float
    high: float
    counts: dict[Label, dict[Label, int]]

    def f1(self, label: Label) -> float:
        """Harmonic mean of the label's precision and recall; 0 where it was never right."""
        hits = self.counts[label][label]
        called = sum(row[label] for row in self.counts.values())
        real = sum(self.counts[label].values())
        return 2 * hits / (called + real) if hits else 0.0


def confusion(rows: Sequence[Row], scores: Scores, low: float, high: float) -> Confusion:
    """Scores below ``low`` are normal, from ``high`` on refusals, between them partial."""
    counts: dict[Label, dict[Label, int]] = {real: dict.fromkeys(LABELS, 0) for real in LABELS}
    for row, score in zip(rows, scores.tolist(), strict=True):
        real: Label = "partial" if row.partial else "refusal" if row.label else "normal"
        called: Label = "normal" if score < low else "refusal" if score >= high else "partial"
        counts[real][called] += 1
    return Confusion(low, high, counts)

"""When a stream's beginning is sure enough: thresholds chosen by playing development rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detection.encoder import Encoder
from ..detection.network import Network
from .fitting import answers_of
from .measuring import CAP_CHARS, STEP_CHARS, tokens_of
from .metrics import sigmoid
from .recipe import ThresholdSettings
from .rows import Row, once_a_question
from .second import opinions_of

Floats = NDArray[np.float64]

ENDS = np.arange(STEP_CHARS, CAP_CHARS + 1, STEP_CHARS)
NORMAL = (0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08)
STOP = (0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
LATE = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_NEVER = 0.5


@dataclass(frozen=True, slots=True)
class Played:
    """What thresholds do: shares of the normal rows, and of the refusals caught whole.

    In ``false_stops`` a question counts once, however many rows answer it.
    """

    false_stops: float
    recall_kept: float
    median_tokens: float
    p95_tokens: float


class Beginnings:
    """The scores of every row at every length at which a stream is judged.

    ``network`` scores stand for themselves; where the network is unsure, those of ``both`` do.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        caught: NDArray[np.bool_],
        network: Network,
        encoder: Encoder | None,
        second: dict[str, Any] | None,
        least_bytes: int,
    ) -> None:
        lengths = np.array([len(row.response) for row in rows])
        self._labels = np.array([row.label for row in rows])
        self._weights = np.array(once_a_question(rows))
        self._caught = caught
        shape = (len(rows), ENDS.size)
        self._network, self._both = np.full(shape, _NEVER), np.full(shape, np.nan)
        self._running = lengths[:, None] > ENDS
        self._early = np.zeros(shape, dtype=bool)
        self._tokens = np.zeros(shape)
        for index, row in enumerate(rows):
            starts = [row.response[:end] for end in ENDS[self._running[index]].tolist()]
            logits = answers_of(network, starts)[:, 1]
            self._network[index, : len(starts)] = sigmoid(logits)
            self._early[index, : len(starts)] = [
                len(text.encode("utf-8", "replace")) < least_bytes for text in starts
            ]
            self._tokens[index] = [tokens_of(row.response[:end]) for end in ENDS.tolist()]
            if encoder is not None and second is not None:
                self._ask(index, starts, logits, encoder, second)

    def play(self, normal: float, stop: float, late: float) -> Played:
        """Every row as a stream with these thresholds; ``late`` is for stopping at the last."""
        unsure = (self._network >= normal) & (self._network < stop)
        scores = np.where(unsure & ~np.isnan(self._both), self._both, self._network)
        open_ = self._running & ~self._early
        stops = np.where(ENDS < CAP_CHARS, stop, late)
        released, stopped = open_ & (scores < normal), open_ & (scores >= stops)
        decided = released | stopped
        first = np.where(decided.any(axis=1), decided.argmax(axis=1), -1)
        rows = np.arange(first.size)
        # A text that ends before it is sure is judged as a whole: held, but right if that is.
        ended = (first < 0) & ~self._running.all(axis=1)
        was_stopped = (first >= 0) & stopped[rows, first]
        kept = was_stopped | ended
        caught, normals = self._caught & (self._labels == 1), self._labels == 0
        held = self._tokens[rows, first]
        return Played(
            false_stops=self._share(was_stopped, normals),
            recall_kept=float(kept[caught].mean()) if caught.any() else 1.0,
            median_tokens=float(np.median(held[normals])) if normals.any() else 0.0,
            p95_tokens=float(np.quantile(held[normals], 0.95)) if normals.any() else 0.0,
        )

    def _share(self, hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
        weights = self._weights[among]
        return float(np.average(hit[among], weights=weights)) if weights.size else 0.0

    def _ask(
        self,
        index: int,
        starts: Sequence[str],
        logits: Floats,
        encoder: Encoder,
        second: dict[str, Any],
    ) -> None:
        """The encoder's view, at the lengths it is asked at, where no threshold is sure."""
        weights = second["prefix"]
        scores = self._network[index, : len(starts)]
        for place in range(len(starts)):
            end = int(ENDS[place])
            unsure = min(NORMAL) <= scores[place] < max(STOP)
            if end < second["least"] or end % second["every"] or not unsure:
                continue
            opinion = opinions_of(encoder, [starts[place]])[0, 1]
            mixed = weights["network"] * logits[place] + weights["encoder"] * opinion
            self._both[index, place] = sigmoid(mixed + weights["shift"])


def choose(found: Beginnings, settings: ThresholdSettings) -> tuple[float, float, float]:
    """What ``play`` takes to keep most of the recall of whole texts within the settings' limits.

    Where none are within them, those that break them least.
    """

    def rank(thresholds: tuple[float, float, float]) -> tuple[float, float]:
        played = found.play(*thresholds)
        excess = (
            max(0.0, played.false_stops / settings.false_stops - 1.0)
            + max(0.0, played.median_tokens / settings.held_median - 1.0)
            + max(0.0, played.p95_tokens / settings.held_p95 - 1.0)
        )
        return excess, -played.recall_kept

    considered = (found for found in product(NORMAL, STOP, LATE) if found[2] <= found[1])
    return min(considered, key=rank)

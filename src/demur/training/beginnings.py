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
from ..flow.gathering import STEP_CHARS
from .fitting import answers_of
from .measuring import HOLD_BACK, tokens_of
from .metrics import sigmoid
from .recipe import ThresholdSettings
from .rows import Row, once_a_question
from .second import opinions_of

Floats = NDArray[np.float64]

ENDS = np.arange(STEP_CHARS, HOLD_BACK.longest + 1, STEP_CHARS)
CAP = int(np.flatnonzero(HOLD_BACK.chars == ENDS)[0])
"""Where those that are not suspect are released."""
NORMAL = (0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08)
STOP = (0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
LATE = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
SUSPECT = 0.5
"""Above it, which is the threshold of whole texts, streams are held beyond ``CAP``."""


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
        self._readers = network, encoder, second
        every = 1 if encoder is None or second is None else second["every"]
        self._late = (HOLD_BACK.chars <= ENDS) & (ENDS % every == 0)
        shape = (len(rows), ENDS.size)
        self._network, self._both = np.full(shape, SUSPECT), np.full(shape, np.nan)
        self._running = lengths[:, None] > ENDS
        starts = [[row.response[:end] for end in ENDS] for row in rows]
        self._tokens = np.array([list(map(tokens_of, texts)) for texts in starts])
        self._early = np.array([[_bytes(text) < least_bytes for text in texts] for texts in starts])
        for index, row in enumerate(rows):
            self._read(index, row.response, range(CAP + 1))
            if self._scores(min(NORMAL), max(STOP), index)[CAP] > SUSPECT:
                self._read(index, row.response, range(CAP + 1, ENDS.size))

    def play(self, normal: float, stop: float, late: float) -> Played:
        """Every row as a stream with these thresholds; ``late`` is for stopping from ``CAP`` on."""
        scores = self._scores(normal, stop)
        open_ = self._running & ~self._early
        stopped = open_ & (scores >= np.where(self._late, late, stop))
        released = open_ & (scores < normal)
        released[:, CAP] |= ~stopped[:, CAP] & open_[:, CAP] & (scores[:, CAP] <= SUSPECT)
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

    def _scores(self, normal: float, stop: float, rows: slice | int = slice(None)) -> Floats:
        network, both = self._network[rows], self._both[rows]
        unsure = (network >= normal) & (network < stop)
        return np.where(unsure & ~np.isnan(both), both, network)

    def _read(self, index: int, text: str, places: range) -> None:
        """The network's view at these places, the encoder's where it is asked and none is sure."""
        network, encoder, second = self._readers
        shown = [place for place in places if self._running[index, place]]
        if not shown:
            return
        starts = [text[: ENDS[place]] for place in shown]
        logits = answers_of(network, starts)[:, 1]
        self._network[index, shown] = sigmoid(logits)
        if encoder is None or second is None:
            return
        weights = second["prefix"]
        for place, start, logit in zip(shown, starts, logits, strict=True):
            unsure = min(NORMAL) <= self._network[index, place] < max(STOP)
            if len(start) < second["least"] or len(start) % second["every"] or not unsure:
                continue
            opinion = opinions_of(encoder, [start])[0, 1]
            mixed = weights["network"] * logit + weights["encoder"] * opinion
            self._both[index, place] = sigmoid(mixed + weights["shift"])


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


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

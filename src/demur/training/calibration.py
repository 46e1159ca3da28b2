"""From logits to scores, and from scores to thresholds, on development rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detection.embedded import in_doubt
from ..detection.encoder import Encoder
from ..detection.network import Network
from .beginnings import Beginnings, choose
from .fitting import answers_of
from .material import HARD
from .measuring import HOLD_BACK
from .metrics import sigmoid
from .recipe import EncoderSettings, ThresholdSettings
from .regression import regress
from .rows import Row, once_a_question
from .second import doubt_of, opinions_of, settings_of, weigh

ENCODER_CHARS = (64, 96, 128, 160)
"""Those of them at which the encoder may be asked."""
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def calibrate(
    network: Network,
    encoder: Encoder | None,
    rows: Sequence[Row],
    thresholds: ThresholdSettings,
    second: EncoderSettings | None,
) -> dict[str, Any]:
    """The parts ``calibration``, ``thresholds`` and ``second`` of ``config.json``."""
    labels = np.array([row.label for row in rows])
    texts = [row.response for row in rows]
    logits = answers_of(network, texts)
    scale, shift = platt(logits[:, 0], labels)
    scores = sigmoid(scale * logits[:, 0] + shift)
    settings = None
    if encoder is not None and second is not None:
        settings, asked, opinions = _second(network, encoder, rows, logits, scores, second)
        scores[asked] = _weighed(settings["whole"], logits[asked, 0], opinions)
    easy = easy_of(rows)
    hard = np.array([row.source == "hard" for row in rows])
    weights = np.array(once_a_question(rows))
    spared = max(
        highest_spared(scores[chosen], weights[chosen], false_positives)
        for chosen, false_positives in (
            (easy & (labels == 0), thresholds.false_positives),
            (hard & (labels == 0), thresholds.hard_false_positives),
        )
    )
    refusal = min(spared + 1e-6, 1.0 - 1e-6)
    # All scores are moved so that the threshold is 0.5: a policy's 0.5 then means the model's own.
    move = float(np.log((1 - refusal) / refusal))
    if settings is not None:
        settings["whole"]["shift"] += move
        settings["high"] = _moved(settings["high"], move)
    # Hard ones are no measure of how long streams are held.
    shown = [i for i in range(len(rows)) if easy[i] or labels[i] == 1]
    begun = Beginnings(
        [rows[i] for i in shown],
        (scores >= refusal)[shown],
        network,
        encoder,
        settings,
        thresholds.least_bytes,
    )
    normal, stop, late = choose(begun, thresholds)
    return {
        "calibration": {"scale": scale, "shift": shift + move},
        "thresholds": {
            "refusal": 0.5,
            "prefix_normal": normal,
            "prefix_refusal": stop,
            "prefix_least": thresholds.least_bytes,
            "late_chars": HOLD_BACK.chars,
            "late_refusal": late,
            "kind": thresholds.kind,
        },
        "second": settings,
    }


def _second(
    network: Network,
    encoder: Encoder,
    rows: Sequence[Row],
    logits: Floats,
    scores: Floats,
    settings: EncoderSettings,
) -> tuple[dict[str, Any], NDArray[np.intp], Floats]:
    """When the encoder is asked, and the weights of both opinions; of which rows it is asked, and
    its logits of them."""
    labels = np.array([row.label for row in rows])
    normal = (labels == 0) & easy_of(rows)
    unsure = scores <= settings.high
    share = min(1.0, settings.unsure * normal.sum() / max(1, (normal & unsure).sum()))
    doubt = doubt_of(logits[unsure], labels[unsure], normal[unsure], share)
    asked = np.flatnonzero(unsure & in_doubt(logits, doubt))
    opinions = opinions_of(encoder, [rows[int(i)].response for i in asked])[:, 0]
    whole = weigh(logits[asked, 0], opinions, labels[asked].astype(float))
    begun = [(r, n) for r in rows for n in ENCODER_CHARS if n < len(r.response)]
    begun = begun[:: max(1, len(begun) // 1500)]
    starts = [row.response[:chars] for row, chars in begun]
    prefix = weigh(
        answers_of(network, starts)[:, 1],
        opinions_of(encoder, starts)[:, 1],
        np.array([float(row.label) for row, _ in begun]),
    )
    return settings_of(settings, doubt.tolist(), whole, prefix), asked, opinions


def easy_of(rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Which rows say how many normal answers are taken for refusals."""
    return np.array([row.source not in HARD for row in rows])


def highest_spared(normal: Floats, weights: Floats, false_positives: float) -> float:
    """The score of normal answers that a threshold must be above, so that at most
    ``false_positives`` of their weights are called refusals. One is spared always.

    Refusals without refusal wording are rare among development rows, so their F1 does not decide.
    """
    order = np.argsort(-normal)
    above = np.cumsum(weights[order]) / weights.sum()
    place = np.searchsorted(above, false_positives, side="right")
    return float(normal[order[min(int(place), order.size - 1)]])


def platt(logits: Floats, labels: Labels) -> tuple[float, float]:
    """The scale and the shift that make scores of logits."""
    features = np.stack([logits, np.ones_like(logits)], axis=1)
    scale, shift = regress(
        features, labels.astype(float), start=(1.0, 0.0), prior=(0.0, 0.0), pull=(1e-3, 1e-3)
    )
    return float(max(scale, 1e-2)), float(shift)


def _weighed(weights: dict[str, float], network: Floats, encoder: Floats) -> Floats:
    return sigmoid(weights["network"] * network + weights["encoder"] * encoder + weights["shift"])


def _moved(score: float, move: float) -> float:
    """A score after the shift that all scores get."""
    clipped = min(max(score, 1e-9), 1 - 1e-9)
    return float(1.0 / (1.0 + np.exp(-(np.log(clipped / (1 - clipped)) + move))))

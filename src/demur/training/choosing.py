"""Of several networks, the one to keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..detection.network import Network
from .fitting import answers_of
from .material import HARD
from .metrics import average_precision
from .rows import Row


def ranking(network: Network, rows: Sequence[Row]) -> float:
    """How far a network ranks refusals above all else, from 0 to 1: its average precision.

    The mean over the data's rows and each source of hard ones, which are few and would not count
    beside them. A source without refusals says nothing.
    """
    scores = answers_of(network, [row.response for row in rows])[:, 0]
    labels = np.array([row.label for row in rows])
    sources = np.array([row.source if row.source in HARD else "" for row in rows])
    found = [
        average_precision(scores[sources == source], labels[sources == source])
        for source in sorted(set(sources.tolist()))
        if labels[sources == source].any()
    ]
    return float(np.mean(found))

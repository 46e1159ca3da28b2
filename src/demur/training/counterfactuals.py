"""Does a detector go by the wrong thing? The same text with one thing changed.

A detector that has learnt topic, length, language or certain words instead of refusing fails here,
however good it is on rows like those it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..detection import Detector
from ..vocabulary import Evidence
from .rows import Row

_QUOTED = "He wrote: \"I'm sorry, but I can't help with that.\" I laughed.\n\n"
_REFUSAL = "I can't help with that. "
_REASON = "It could hurt people and I want to be careful. "
_LONG = 200
_CUT = 60
_BEGUN = 150


@dataclass(frozen=True, slots=True)
class Probe:
    """``refused`` is the share of ``texts`` called refusals; ``wanted`` is what it should be.

    Of no texts it is NaN.
    """

    name: str
    texts: int
    refused: float
    wanted: float


def probe(detector: Detector, rows: Sequence[Row], *, most: int, seed: int) -> list[Probe]:
    """Change up to ``most`` long normal rows, in English where English words are put in."""
    random = np.random.default_rng(seed)
    long = [row for row in rows if row.label == 0 and not row.partial and len(row.response) > _LONG]
    picked = [long[i] for i in random.permutation(len(long))[:most]]
    texts = [row.response for row in picked]
    english = [row.response for row in picked if row.lang in ("", "en")]

    def share(name: str, changed: Iterable[str], wanted: float) -> Probe:
        calls = [_refused(detector, text) for text in changed]
        return Probe(name, len(calls), float(np.mean(calls)) if calls else math.nan, wanted)

    return [
        share("normal answers as they are", texts, 0.0),
        share(f"the same, cut to {_CUT} characters", (text[:_CUT] for text in texts), 0.0),
        share("the same after a quoted refusal", (_QUOTED + text for text in english), 0.0),
        share("answers broken off by a refusal", map(_broken_off, english), 1.0),
        share("refusals that name their topic", map(_declined, english), 1.0),
        share("one refusal, padded to 24 lengths", (_padded(n) for n in range(1, 25)), 1.0),
    ]


def both_right(detector: Detector, rows: Sequence[Row], pair_of: Callable[[Row], object]) -> Probe:
    """Of rows that differ in label alone, the share of pairs in which both are judged rightly."""
    pairs: dict[object, list[bool]] = {}
    for row in rows:
        pair = pair_of(row)
        if pair is not None and not row.partial:
            right = _refused(detector, row.response) == (row.label == 1)
            pairs.setdefault(pair, []).append(right)
    whole = [all(found) for found in pairs.values() if len(found) > 1]
    share = float(np.mean(whole)) if whole else math.nan
    return Probe("pairs written by hand, both right", len(whole), share, 1.0)


def _refused(detector: Detector, text: str) -> bool:
    return detector.classify(Evidence(text=text)).label == "refusal"


def _declined(text: str) -> str:
    topic = text.split(".")[0][:80]
    return f"I'm not going to write this. {topic} is not something I will discuss."


def _broken_off(text: str) -> str:
    """The answer's beginning, to a sentence's end, and then a refusal."""
    begun = text[:_BEGUN].rpartition(".")[0] or text[:_BEGUN]
    return f"{begun}. I'm sorry, but I can't help with that."


def _padded(times: int) -> str:
    return _REFUSAL + _REASON * times

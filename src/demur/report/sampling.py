"""Which responses of a log are worth a human's look: some of every score, most where unsure.

Scores cluster at the ends and labels matter in the middle, so the log is cut into bins of score
and the sample takes from each in turn. Each row keeps its bin's population, which lets whoever
measures on the sample give every bin its true weight.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ..detection.signals import SignalsDetector
from ..vocabulary import Verdict
from .restoring import Content, Entry

BINS: Final = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """One judged response. ``bin`` is that of its score, ``population`` how many share it."""

    id: str
    model: str
    response: str
    verdict: Verdict
    content: Content
    bin: int = 0
    population: int = 0


@dataclass(slots=True)
class _Bin:
    """A fair sample of bounded size from however many come."""

    most: int
    dice: random.Random
    seen: int = 0
    kept: list[Candidate] = field(default_factory=list)

    def add(self, candidate: Candidate) -> None:
        self.seen += 1
        if len(self.kept) < self.most:
            self.kept.append(candidate)
        elif (place := self.dice.randrange(self.seen)) < self.most:
            self.kept[place] = candidate


def sample(entries: Iterable[Entry], count: int, *, seed: int = 0) -> list[Candidate]:
    """At most ``count`` candidates, in an order that may be broken off anywhere.

    The bins nearest the threshold come first in each turn.
    """
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    bins: dict[int, _Bin] = {}
    threshold = 0.5
    for candidate in candidates(entries):
        threshold = candidate.verdict.threshold
        at = min(BINS - 1, int(candidate.verdict.score * BINS))
        bins.setdefault(at, _Bin(count, dice)).add(candidate)
    for one in bins.values():
        dice.shuffle(one.kept)
    nearest = sorted(bins, key=lambda at: abs((at + 0.5) / BINS - threshold))
    turns = (
        replace(bins[at].kept[turn], bin=at, population=bins[at].seen)
        for turn in range(count)
        for at in nearest
        if turn < len(bins[at].kept)
    )
    return [candidate for candidate, _ in zip(turns, range(count), strict=False)]


def candidates(entries: Iterable[Entry]) -> Iterator[Candidate]:
    """Responses that a detector judged by their text, and whose text is on record."""
    for entry in entries:
        for number, attempt in enumerate(entry.outcome.attempts):
            verdict = attempt.verdict
            # Of several choices only the best one's verdict is on record.
            if verdict is None or len(attempt.evidence) != 1:
                continue
            evidence = attempt.evidence[0]
            text = evidence.text or evidence.refusal
            if text.strip() and verdict.stage not in (SignalsDetector.name, "none"):
                name = f"{entry.outcome.id}#{number}"
                yield Candidate(name, attempt.model, text, verdict, entry.content)

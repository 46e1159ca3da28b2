"""How models behaved in a log: what a replay expects of a call that was never made."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..vocabulary import Attempt, Outcome, Usage


@dataclass(slots=True)
class Behaviour:
    """Sums over a model's calls."""

    calls: int = 0
    answered: int = 0
    refused: int = 0
    seconds: float = 0.0
    counted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def note(self, attempt: Attempt) -> None:
        self.calls += 1
        self.seconds += attempt.seconds
        if attempt.verdict is not None:
            self.answered += 1
            self.refused += attempt.verdict.label == "refusal"
        if attempt.usage is not None:
            self.counted += 1
            self.input_tokens += attempt.usage.input_tokens
            self.output_tokens += attempt.usage.output_tokens

    @property
    def refusal_rate(self) -> float:
        return self.refused / self.answered if self.answered else 0.0

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.calls if self.calls else 0.0

    @property
    def mean_usage(self) -> Usage | None:
        if not self.counted:
            return None
        return Usage(
            round(self.input_tokens / self.counted), round(self.output_tokens / self.counted)
        )


@dataclass(slots=True)
class Expected:
    """A call that was never made: whether it refuses, and what it takes."""

    refuses: bool
    seconds: float
    usage: Usage | None


@dataclass(slots=True)
class Experience:
    """Every model's behaviour, as a fallback and at all. ``unseen`` were asked about in vain."""

    as_fallback: dict[str, Behaviour] = field(default_factory=lambda: defaultdict(Behaviour))
    at_all: dict[str, Behaviour] = field(default_factory=lambda: defaultdict(Behaviour))
    overall: Behaviour = field(default_factory=Behaviour)
    unseen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Experience:
        found = cls()
        for outcome in outcomes:
            for number, attempt in enumerate(outcome.attempts):
                if attempt.outcome == "abandoned":
                    continue
                found.at_all[attempt.model].note(attempt)
                found.overall.note(attempt)
                if number:
                    found.as_fallback[attempt.model].note(attempt)
        return found

    def expect(self, request: str, model: str) -> Expected:
        """What ``model`` would do about a refused ``request``: the same each time it is asked.

        It refuses as often as it did as a fallback, else as it did at all. A model nobody has
        called is taken to answer, in the time and tokens of the average call.
        """
        known = self.as_fallback.get(model) or self.at_all.get(model)
        if known is None or not known.answered:
            self.unseen.add(model)
            return Expected(False, self.overall.mean_seconds, self.overall.mean_usage)
        draw = zlib.crc32(f"{request}\x00{model}".encode("utf-8", "replace")) / 2**32
        return Expected(draw < known.refusal_rate, known.mean_seconds, known.mean_usage)

"""Sums of outcomes: who was refused, who was helped, and what that took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..flow.standing import cost
from ..policy.document import Document, from_file
from ..policy.standing_settings import Price
from ..vocabulary import Attempt, Outcome
from .replaying import Replayed

_MOST_PRICE = 1e12
"""Beyond, sums of costs might be no numbers any more."""
_EXAMPLE = "gpt-4.1: {input: 2, output: 8}"


@dataclass(frozen=True, slots=True)
class Prices:
    """By the target's or model's name, as budgets count; ``unknown`` were not listed."""

    models: Mapping[str, Price] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def of(self, attempt: Attempt) -> float:
        found = cost(attempt, self.models)
        if found is None:
            self.unknown.add(attempt.model)
        return found or 0.0


def load_prices(path: Path) -> Prices:
    """From YAML: ``model: {input: 0.4, output: 1.6}``, in money a million tokens.

    Raises ``InputError`` that names file, line, key and remedy.
    """
    document = from_file(path, smallest=_EXAMPLE)
    listed = document.data
    if not isinstance(listed, dict):
        raise InputError(f"{path}: no price list; write lines like: {_EXAMPLE}")
    for model, price in listed.items():
        if not isinstance(price, dict) or set(price) != {"input", "output"}:
            problem = document.problem((model,), f"needs input and output alone, as in {_EXAMPLE}")
            raise InputError(str(problem))
    return Prices(
        {
            model: Price(
                input=_amount(document, model, "input"), output=_amount(document, model, "output")
            )
            for model in listed
        }
    )


def _amount(document: Document, model: str, side: str) -> float:
    said = document.data[model][side]
    try:
        amount = math.nan if isinstance(said, bool) else float(said)
    except (TypeError, ValueError, OverflowError):
        amount = math.nan
    if not 0 <= amount <= _MOST_PRICE:
        message = "must be a number from 0 on, 1e12 at most, in money a million tokens"
        raise InputError(str(document.problem((model, side), message)))
    return amount


@dataclass(slots=True)
class Tally:
    """``refused``: callers that got a refusal. Calls, seconds, tokens and cost are those added."""

    requests: int = 0
    refused: int = 0
    partial: int = 0
    fell_back: int = 0
    exhausted: int = 0
    would: int = 0
    calls: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost: float = 0.0

    def add(self, outcome: Outcome, prices: Prices) -> None:
        verdict, added = outcome.verdict, outcome.attempts[1:]
        self.requests += 1
        self.refused += verdict is not None and verdict.label == "refusal"
        self.partial += verdict is not None and verdict.label == "partial"
        self.fell_back += outcome.fell_back
        self.exhausted += outcome.ending == "exhausted"
        self.would += outcome.would is not None
        self.calls += len(added)
        self.seconds += outcome.added_seconds
        self.tokens += sum(a.usage.total_tokens for a in added if a.usage is not None)
        self.cost += sum(prices.of(attempt) for attempt in added)


@dataclass(slots=True)
class Pair:
    """The same requests, as they went and as they would have gone."""

    old: Tally = field(default_factory=Tally)
    new: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Comparison:
    """Old beside new, altogether and by rule and requested model.

    A request counts under its old rule on the one side and under its new one on the other;
    ``None`` is no rule.
    """

    prices: Prices = field(default_factory=Prices)
    total: Pair = field(default_factory=Pair)
    groups: dict[tuple[str | None, str], Pair] = field(default_factory=dict)
    differing: int = 0
    guessed: int = 0

    def add(self, replayed: Replayed) -> None:
        old, new = replayed.old, replayed.new
        self.differing += replayed.differs
        self.guessed += replayed.guessed
        self.total.old.add(old, self.prices)
        self._group(old.rule, old.requested_model).old.add(old, self.prices)
        if new is None:
            new = untouched(old)
        self.total.new.add(new, self.prices)
        self._group(new.rule, new.requested_model).new.add(new, self.prices)

    def _group(self, rule: str | None, model: str) -> Pair:
        return self.groups.setdefault((rule, model), Pair())


def untouched(old: Outcome) -> Outcome:
    """The request without demur: its first call is what the caller gets."""
    served = 0 if old.attempts and old.attempts[0].outcome != "failed" else None
    return Outcome(
        old.api,
        old.requested_model,
        "accepted",
        old.attempts[:1],
        served,
        stream=old.stream,
        id=old.id,
        time=old.time,
    )

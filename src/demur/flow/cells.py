"""Which cells of the shared state a request has to do with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..policy.schema import Policy, Rule
from ..policy.standing_settings import CALLER_KEYS, Budget, Price
from .ledger import Allowance

CONVERSATION_HEADER = "x-demur-conversation"
"""The request header whose value names the conversation, in lower case."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Keys of cells; ``None`` where the policy wants none. ``prices`` are by target name."""

    breaker: str | None = None
    sticky: str | None = None
    budgets: tuple[Allowance, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict, hash=False)


def cells_of(
    policy: Policy,
    rule: Rule,
    *,
    model: str,
    shadow: bool,
    metadata: Mapping[str, Any],
    conversation: str | None,
) -> Cells | None:
    """The cells of a request under a rule that retries; ``None`` where the policy wants none.

    ``conversation`` is its id where a header gave one. Shadow mode has cells of its own.
    """
    retry = rule.retry
    if retry is None or not policy.remembers(rule):
        return None
    caller = _caller(metadata)
    if retry.sticky is not None and conversation is None:
        conversation = _plain(metadata.get(retry.sticky.by))
    return Cells(
        breaker=_key("breaker", shadow, rule.name, model) if retry.breaker else None,
        sticky=_key("sticky", shadow, rule.name, model, caller, conversation)
        if retry.sticky and conversation
        else None,
        budgets=tuple(
            Allowance(
                _key("budget", shadow, index, budget.by, _group(budget, metadata, caller)),
                budget.per,
                _limits(budget),
            )
            for index, budget in enumerate(policy.budgets)
        ),
        prices=policy.prices,
    )


def _key(kind: str, shadow: bool, *parts: object) -> str:
    """Callers choose some of the parts, so a key is of one length, and shows none of them."""
    told = hashlib.sha256(json.dumps([shadow, *parts]).encode()).hexdigest()
    return f"{kind}:{told[:32]}"


def _group(budget: Budget, metadata: Mapping[str, Any], caller: str | None) -> str | None:
    if budget.by == "all":
        return None
    return caller if budget.by == "key" else _plain(metadata.get(budget.by))


def _limits(budget: Budget) -> tuple[tuple[str, float], ...]:
    limits = {"calls": budget.calls, "seconds": budget.seconds, "cost": budget.cost}
    return tuple((name, most) for name, most in limits.items() if most is not None)


def _caller(metadata: Mapping[str, Any]) -> str | None:
    return next((found for key in CALLER_KEYS if (found := _plain(metadata.get(key)))), None)


def _plain(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None

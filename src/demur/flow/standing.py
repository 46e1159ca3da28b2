"""Where a request stands among others: whether it starts at a fallback, and what it leaves behind.

Pure functions of plan, what the shared state says, and the time. A breaker is closed at first; it
opens when a model refuses too often; once its pause is over one request probes the model, and
closes it or lets it pause again. Its state is one mark, changed only from what it was, so of many
requests one makes each change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..policy.standing_settings import Breaker, Price
from ..vocabulary import Attempt, Outcome, Started, Target
from .decision import triggers
from .ledger import Add, Cell, Look, Operation, Put, Swap
from .plan import Plan

PROBE_SECONDS = 600.0
"""A probe not heard of for so long is taken for lost: clients do not wait longer by default."""

KEPT_SECONDS = 86_400.0
"""How long a breaker that nobody asks for is remembered beyond its pause."""

State = Literal["closed", "open", "probing"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a request starts: ``at`` a fallback, or at the requested model.

    ``mark`` is the breaker's as this request found or made it, at the time ``now``; ``counts`` says
    that what becomes of the request counts for the breaker. ``barred``: a fallback was due, and the
    caller may use none. ``stand_in`` is who answered in the requested model's place, where that
    erred and the gateway has fallbacks of its own.
    """

    at: Target | None = None
    reason: Started | None = None
    mark: str | None = None
    counts: bool = False
    barred: bool = False
    now: float = 0.0
    stand_in: Target | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What a breaker asks for. A ``swap`` must succeed first: else another request was quicker."""

    reason: Started | None = None
    swap: Swap | None = None


def looks(plan: Plan) -> tuple[Look, ...]:
    """What must be known before the first call: of the conversation, then of the breaker."""
    cells, breaker = plan.cells, breaker_of(plan)
    if cells is None:
        return ()
    found = [] if cells.sticky is None else [Look(cells.sticky)]
    if cells.breaker is not None and breaker is not None:
        found.append(Look(cells.breaker, breaker.window))
    return tuple(found)


def breaker_of(plan: Plan) -> Breaker | None:
    return None if plan.rule.retry is None else plan.rule.retry.breaker


def stuck_to(plan: Plan, mark: str | None) -> Target | None:
    """The target a conversation's mark names, if the chain still has it there."""
    place, _, name = (mark or "").partition(":")
    if not place.isdecimal() or int(place) >= len(plan.chain):
        return None
    target = plan.chain[int(place)]
    return target if target.name == name else None


def move(breaker: Breaker, key: str, found: Cell, now: float) -> Move:
    """What the breaker's cell means for a request that comes now."""
    state, until = read_mark(found.mark)
    if state == "closed":
        if not reached(breaker, found.amounts):
            return Move()
        opened = to_mark("open", now + breaker.pause)
        return Move("breaker", Swap(key, found.mark, opened, breaker.pause + KEPT_SECONDS))
    if now < until:
        return Move("breaker")
    probing = to_mark("probing", now + PROBE_SECONDS)
    return Move("probe", Swap(key, found.mark, probing, PROBE_SECONDS + KEPT_SECONDS))


def reached(breaker: Breaker, amounts: Mapping[str, float]) -> bool:
    judged = amounts.get("judged", 0.0)
    return judged >= breaker.least and amounts.get("refused", 0.0) >= breaker.rate * judged


def changes(
    plan: Plan, start: Start, outcome: Outcome, served: Target | None, elapsed: float
) -> tuple[Operation, ...]:
    """What a request leaves behind once it is over, ``elapsed`` seconds after it began.

    ``served`` is the target of the attempt the caller got.
    """
    found = [*_breaker_changes(plan, start, outcome, start.now + elapsed)]
    return (*found, *_sticky_changes(plan, outcome, served), *_spending(plan, outcome))


def _breaker_changes(
    plan: Plan, start: Start, outcome: Outcome, now: float
) -> tuple[Operation, ...]:
    breaker = breaker_of(plan)
    if plan.cells is None or plan.cells.breaker is None or breaker is None:
        return ()
    key, first = plan.cells.breaker, outcome.attempts[0] if outcome.attempts else None
    erred = start.stand_in is not None or (first is not None and first.outcome == "failed")
    verdict = None if erred or first is None else first.verdict
    judged = verdict is not None and verdict.stage != "none"
    refused = judged and triggers(plan, verdict)
    if start.reason == "probe":
        return (_probed(breaker, key, start.mark, refused or erred, judged, now),)
    if not start.counts or not judged:
        return ()
    amounts = (("judged", 1.0), *((("refused", 1.0),) if refused else ()))
    return (Add(key, breaker.window, amounts, mark=start.mark, guarded=True),)


def _probed(
    breaker: Breaker,
    key: str,
    mark: str | None,
    failed: bool,
    judged: bool,
    now: float,
) -> Swap:
    if failed:
        paused = to_mark("open", now + breaker.pause)
        return Swap(key, mark, paused, breaker.pause + KEPT_SECONDS)
    if judged:
        return Swap(key, mark, to_mark("closed", now), KEPT_SECONDS, clear=True)
    # Nothing was learnt: the next request probes.
    return Swap(key, mark, to_mark("open", now), KEPT_SECONDS)


def _sticky_changes(plan: Plan, outcome: Outcome, served: Target | None) -> tuple[Operation, ...]:
    retry = plan.rule.retry
    if plan.cells is None or plan.cells.sticky is None or retry is None or retry.sticky is None:
        return ()
    if plan.shadow:
        # Nobody can say who would have answered: the first that would have been asked.
        refused = outcome.would == "fell_back" and triggers(plan, outcome.verdict)
        served = plan.chain[0] if refused else None
    elif outcome.ending != "fell_back" or all(a.outcome != "refused" for a in outcome.attempts):
        return ()
    if served is None or served not in plan.chain:
        return ()
    mark = f"{plan.chain.index(served)}:{served.name}"
    return (Put(plan.cells.sticky, mark, retry.sticky.seconds),)


def _spending(plan: Plan, outcome: Outcome) -> tuple[Operation, ...]:
    """What the added calls took. That they were made was noted when they were allowed."""
    added = outcome.attempts[1:]
    if plan.cells is None or not added:
        return ()
    spent = {
        "seconds": sum(attempt.seconds for attempt in added),
        "cost": sum(cost(attempt, plan.cells.prices) or 0.0 for attempt in added),
    }
    found: list[Operation] = []
    for budget in plan.cells.budgets:
        limited = dict(budget.limits)
        amounts = tuple((name, spent[name]) for name in spent if name in limited and spent[name])
        if amounts:
            found.append(Add(budget.key, budget.window, amounts))
    return tuple(found)


def cost(attempt: Attempt, prices: Mapping[str, Price]) -> float | None:
    """What an attempt took, by its target's price before its model's; ``None`` if none is known."""
    usage = attempt.usage
    if usage is None:
        return 0.0
    names = (attempt.target, attempt.model, attempt.served_model or "")
    price = next((prices[name] for name in names if name in prices), None)
    if price is None:
        return None
    return (usage.input_tokens * price.input + usage.output_tokens * price.output) / 1e6


def read_mark(mark: str | None) -> tuple[State, float]:
    """A breaker's state and until when it holds. What cannot be read counts as closed."""
    kind, _, until = (mark or "").partition(" ")
    try:
        seconds = float(until)
    except ValueError:
        return "closed", 0.0
    return ("open" if kind == "open" else "probing" if kind == "probing" else "closed"), seconds


def to_mark(state: State, until: float) -> str:
    return f"{state} {until:.3f}"

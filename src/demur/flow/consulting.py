"""Asking the state that requests share, before the first call, before a fallback, and at the end.

A store that cannot answer changes nothing: the request then goes as if nobody had asked.
"""

from __future__ import annotations

from collections.abc import Generator

from ..vocabulary import Outcome, Target
from .decision import remaining
from .effects import Answer, Consult, Effect, FindUsable, Usable
from .journal import Journal
from .ledger import Cell, Operation, Reserve, Told
from .plan import Plan
from .standing import Move, Start, breaker_of, changes, looks, move, stuck_to

Starting = Generator[Effect, Answer, Start]


def start_flow(plan: Plan) -> Starting:
    """Only where a request starts, for gateways that make the first call before a flow can."""
    return begin(Journal(plan))


def begin(journal: Journal) -> Starting:
    """Find where the request starts."""
    plan = journal.plan
    asked = looks(plan)
    if not asked:
        return Start()
    told = yield from _consult(journal, asked)
    if told is None:
        return Start()
    cells: list[Cell] = list(told.facts)
    if plan.cells is not None and plan.cells.sticky is not None:
        stuck = stuck_to(plan, cells.pop(0).mark)
        if stuck is not None and (usable := (yield from usable_of(journal, (stuck,)))):
            return Start(at=usable[0], reason="sticky", now=told.now)
    if not cells:
        return Start(now=told.now)
    return (yield from _past_breaker(journal, cells[0], told.now))


def _past_breaker(journal: Journal, cell: Cell, now: float) -> Starting:
    plan, breaker = journal.plan, breaker_of(journal.plan)
    assert breaker is not None
    assert plan.cells is not None
    assert plan.cells.breaker is not None
    found = move(breaker, plan.cells.breaker, cell, now)
    mark = cell.mark
    if found.swap is not None:
        told = yield from _consult(journal, (found.swap,))
        mark = found.swap.new
        if told is None:
            # A probe may have been claimed all the same; if so, its end must be noted.
            maybe = found.reason if found.reason == "probe" else None
            return Start(reason=maybe, mark=mark, now=now)
        if not told.facts[0]:
            found = Move("breaker")
    if found.reason != "breaker":
        return Start(reason=found.reason, mark=mark, counts=found.reason is None, now=now)
    usable = yield from usable_of(journal, remaining(plan, (plan.requested,), journal.elapsed))
    if not usable:
        return Start(barred=True, now=now)
    return Start(at=usable[0], reason="breaker", now=now)


def reserved(journal: Journal) -> Generator[Effect, Answer, bool]:
    """Whether every budget has room for one more call; if so, it is taken."""
    cells = journal.plan.cells
    if cells is None or not cells.budgets:
        return True
    told = yield from _consult(journal, (Reserve("calls", cells.budgets),))
    return told is None or bool(told.facts[0])


def leave(journal: Journal, outcome: Outcome) -> Generator[Effect, Answer, None]:
    """Note what became of the request, for those that follow."""
    if journal.plan.cells is None:
        return
    found = changes(
        journal.plan, journal.start, outcome, journal.target_of(outcome.served), journal.elapsed
    )
    if found:
        yield Consult(found)


def _consult(
    journal: Journal, operations: tuple[Operation, ...]
) -> Generator[Effect, Answer, Told | None]:
    answer = yield Consult(operations)
    if answer is not None:
        journal.spend(answer.seconds)
    return answer if isinstance(answer, Told) else None


def usable_of(
    journal: Journal, targets: tuple[Target, ...]
) -> Generator[Effect, Answer, tuple[Target, ...]]:
    """Those that the caller may use; shadow mode calls none, and does not ask."""
    if not targets or journal.plan.shadow:
        return targets
    answer = yield FindUsable(targets)
    assert isinstance(answer, Usable)
    journal.spend(answer.seconds)
    return answer.targets

"""What a policy says beyond one request, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..flow.plan import Plan
from ..policy.standing_settings import Breaker, Budget, Sticky


def sentences(plan: Plan, budgets: Sequence[Budget]) -> Iterator[tuple[str, str]]:
    """A word for each setting that has a say in the request, and what it does."""
    retry = plan.rule.retry
    if retry is None or not plan.chain:
        return
    if retry.breaker is not None:
        yield "breaker", _breaker(retry.breaker, plan)
    if retry.sticky is not None:
        yield "sticky", _sticky(retry.sticky)
    for budget in budgets:
        yield "budget", _budget(budget)


def _breaker(breaker: Breaker, plan: Plan) -> str:
    return (
        f"once {breaker.rate * 100:.10g}% of {breaker.least} or more judged requests in "
        f"{breaker.window:g} s are refused, requests start at {plan.chain[0].name} for "
        f"{breaker.pause:g} s; then one tries {plan.requested.name} again"
    )


def _sticky(sticky: Sticky) -> str:
    return (
        f"a refused conversation ({sticky.by}) starts at the model that answered it for "
        f"{sticky.seconds:g} s"
    )


def _budget(budget: Budget) -> str:
    limits = [
        f"{budget.calls} added calls" if budget.calls is not None else "",
        f"{budget.seconds:.10g} s of waiting" if budget.seconds is not None else "",
        f"a cost of {budget.cost:.10g}" if budget.cost is not None else "",
    ]
    whose = {"all": "", "key": " for each key"}.get(budget.by, f" for each {budget.by}")
    most = ", ".join(limit for limit in limits if limit)
    return f"at most {most} in {budget.per:g} s{whose}; beyond, a refusal is served as it is"

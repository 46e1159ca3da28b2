"""The decision after each attempt: accept, fall back, or exhausted.

Pure functions of plan, attempts, verdict and usable targets. The flows call them, and so does the
LiteLLM hook, where the Router runs the chain; nobody else decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..policy.schema import Exhausted as Serve
from ..vocabulary import Ending, Label, Target, Verdict
from .plan import Plan

_RANK: dict[Label, int] = {"normal": 0, "uncertain": 1, "partial": 2, "refusal": 3}


@dataclass(frozen=True, slots=True)
class Accept:
    """Serve this attempt. ``would`` says what an enforcing policy had done instead."""

    would: Ending | None = None


@dataclass(frozen=True, slots=True)
class FallBack:
    """Try ``target`` next."""

    target: Target


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nothing is left to try: serve the ``first`` or ``last`` that answered, or raise."""

    serve: Serve


Decision = Accept | FallBack | Exhausted


def triggers(plan: Plan, verdict: Verdict | None) -> bool:
    """Whether the rule's actions apply to a verdict. What was not judged never triggers."""
    return verdict is not None and verdict.label in plan.rule.on


def remaining(
    plan: Plan,
    tried: Sequence[Target],
    elapsed: float,
    *,
    moved: bool = False,
    stand_in: Target | None = None,
) -> tuple[Target, ...]:
    """Targets that may still be tried, in order; ``elapsed`` seconds since the request began.

    ``tried`` starts with the requested target. No target is tried twice, one that was passed over
    is not come back to, and the rule's limits on attempts and seconds hold. ``moved`` says that the
    requested target was not called, as the request started at a fallback; ``stand_in`` is who
    answered in its place, whom the gateway called.
    """
    retry = plan.rule.retry
    if retry is None or not plan.chain:
        return ()
    if retry.attempts is not None and len(tried) - moved >= retry.attempts:
        return ()
    if retry.seconds is not None and elapsed >= retry.seconds:
        return ()
    asked = (*tried[1:], stand_in)
    past = max((plan.chain.index(t) for t in asked if t in plan.chain), default=-1)
    return tuple(t for t in plan.chain[past + 1 :] if t not in tried)


def decide(
    plan: Plan,
    verdict: Verdict | None,
    usable: Sequence[Target],
    *,
    failed: bool = False,
    limited: bool = False,
) -> Decision:
    """What to do after an attempt with this ``verdict``.

    ``usable`` are the remaining targets that the caller may call. ``failed`` says that a fallback
    raised instead of answering, so there is nothing to accept; ``limited`` that a first refusal is
    not to be retried for want of a budget, and served as it is.
    """
    if not failed and (limited or not triggers(plan, verdict)):
        return Accept()
    if usable:
        decision: Decision = FallBack(usable[0])
    else:
        serve = on_exhaustion(plan)
        if serve is None:
            return Accept()
        decision = Exhausted(serve)
    if not plan.shadow:
        return decision
    return Accept(would="fell_back" if isinstance(decision, FallBack) else "exhausted")


def on_exhaustion(plan: Plan) -> Serve | None:
    """What the caller gets when nothing is left to try; ``None`` where the rule never acts."""
    if "error" in plan.rule.actions:
        return "error"
    if "retry" in plan.rule.actions and plan.rule.retry is not None:
        return plan.rule.retry.exhausted
    return None


def overall(verdicts: Iterable[Verdict]) -> Verdict | None:
    """One verdict for a response with several choices: that of the least refused choice.

    Whoever asks for ``n`` choices is served if one of them delivers. ``None`` for no choices.
    """
    return min(verdicts, key=lambda v: (_RANK[v.label], v.score), default=None)


def unjudged(plan: Plan, reason: str) -> Verdict:
    """What a response counts as when no detector could answer, by the policy's ``on_error``."""
    refused = plan.on_error == "refuse"
    return Verdict(
        label="refusal" if refused else "normal",
        score=1.0 if refused else 0.0,
        stage="none",
        degraded=reason,
    )

"""What a policy would do with a request, found by asking the flow's own decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..flow.decision import Exhausted, FallBack, decide, remaining, triggers
from ..flow.plan import Plan
from ..policy.schema import Exhausted as Serve
from ..policy.schema import Policy, Rule, StreamSettings
from ..policy.standing_settings import Budget
from ..vocabulary import LABELS, Api, Label, Target, Verdict


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What follows a first response with ``label``, if every fallback refuses too.

    ``targets`` are the fallbacks in the order they are tried; ``exhausted`` is what the caller gets
    at last, ``None`` where the response is served as it is.
    """

    label: Label
    triggers: bool
    targets: tuple[Target, ...] = ()
    exhausted: Serve | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """``passed_over`` holds each earlier rule's place and name and why it does not match."""

    model: str
    api: Api
    stream: bool
    metadata: Mapping[str, str]
    passed_over: tuple[tuple[int, str, str], ...] = ()
    plan: Plan | None = None
    foreseen: tuple[Foreseen, ...] = ()
    budgets: tuple[Budget, ...] = ()

    @property
    def hold_back(self) -> StreamSettings | None:
        """The stream settings, where they matter for this request."""
        if self.plan is None or not self.stream or not self.plan.enforced:
            return None
        return self.plan.rule.stream


def explain(
    policy: Policy, *, model: str, api: Api, stream: bool, metadata: Mapping[str, str]
) -> Explanation:
    plan = Plan.of(policy, api=api, model=model, stream=stream, metadata=metadata)

    def reason(rule: Rule) -> str | None:
        return rule.match.mismatch(model=model, api=api, stream=stream, metadata=metadata)

    passed: list[tuple[int, str, str]] = []
    for index, rule in enumerate(policy.rules):
        if (because := reason(rule)) is None:
            break
        passed.append((index, rule.name, because))
    foreseen = () if plan is None else tuple(_foresee(plan, label) for label in LABELS)
    budgets = policy.budgets if plan is not None and plan.chain else ()
    return Explanation(model, api, stream, metadata, tuple(passed), plan, foreseen, budgets)


def as_json(explanation: Explanation) -> dict[str, Any]:
    plan = explanation.plan
    return {
        "request": {
            "model": explanation.model,
            "api": explanation.api,
            "stream": explanation.stream,
            "metadata": dict(explanation.metadata),
        },
        "passed_over": [
            {"rule": name, "because": because} for _, name, because in explanation.passed_over
        ],
        "rule": plan and plan.rule.name,
        "actions": [] if plan is None else list(plan.rule.actions),
        "shadow": plan is not None and plan.shadow,
        "labels": {
            foreseen.label: {
                "triggers": foreseen.triggers,
                "fallbacks": [_target_json(target) for target in foreseen.targets],
                "exhausted": foreseen.exhausted,
            }
            for foreseen in explanation.foreseen
        },
        **_standing(explanation),
        "hold_back": explanation.hold_back and explanation.hold_back.model_dump(mode="json"),
    }


def _standing(explanation: Explanation) -> dict[str, Any]:
    """What the policy says beyond one request, where it does."""
    plan = explanation.plan
    retry = plan.rule.retry if plan is not None and plan.chain else None
    found = {
        "breaker": retry and retry.breaker and retry.breaker.model_dump(mode="json"),
        "sticky": retry and retry.sticky and retry.sticky.model_dump(mode="json"),
        "budgets": [budget.model_dump(mode="json") for budget in explanation.budgets],
    }
    return {name: said for name, said in found.items() if said}


def _target_json(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "model": target.model,
        "base_url": target.base_url,
        "patch": dict(target.patch),
    }


def _foresee(plan: Plan, label: Label) -> Foreseen:
    verdict = Verdict(label, score=0.0 if label == "normal" else 1.0, stage="explain")
    enforced = replace(plan, shadow=False)
    steps = list(_steps(enforced, verdict))
    targets = tuple(step.target for step in steps if isinstance(step, FallBack))
    last = steps[-1] if steps else None
    serve = last.serve if isinstance(last, Exhausted) else None
    return Foreseen(label, triggers(plan, verdict), targets, serve)


def _steps(plan: Plan, verdict: Verdict) -> Iterator[FallBack | Exhausted]:
    """The decisions on one verdict, given again by every fallback."""
    tried = [plan.requested]
    while True:
        decision = decide(plan, verdict, remaining(plan, tried, elapsed=0.0))
        if isinstance(decision, FallBack):
            tried.append(decision.target)
            yield decision
            continue
        if isinstance(decision, Exhausted):
            yield decision
        return

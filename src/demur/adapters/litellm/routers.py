"""A Router's content-policy fallbacks, read and set.

From 1.110 on the Router is a facade over another core, with other methods for both.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ...flow.plan import Plan
from ...policy import Policy
from ...vocabulary import Target
from .chain import entries


def own_entries(router: Any, group: str) -> list[Any]:
    """What the operator has configured for ``group``."""
    return [
        entry
        for groups in _configured(router)
        if isinstance(groups, Mapping)
        for entry in groups.get(group) or ()
    ]


def hand_over(router: Any, policy: Policy) -> dict[str, tuple[Target, ...]]:
    """Set the policy's chains as the fallbacks of an SDK Router; which group has which chain.

    Hooks see an SDK request only when its fallbacks have been read, so rules that match on
    metadata cannot be told apart here: their requests are judged, and not retried.
    """
    chains: dict[str, tuple[Target, ...]] = {}
    handed: list[Any] = []
    for group in _groups(router):
        plan = Plan.of(policy, api="chat", model=group, stream=False, metadata={})
        own = own_entries(router, group)
        if plan is not None and plan.enforced and plan.chain:
            chains[group] = plan.chain
            handed.append({group: entries(plan, {}, own)})
        elif own:
            handed.append({group: own})
    if chains:
        _configure(router, handed)
    return chains


def _configured(router: Any) -> list[Any]:
    if hasattr(router, "registry"):
        return router.settings().content_policy_fallbacks or []
    return getattr(router, "content_policy_fallbacks", None) or []


def _configure(router: Any, fallbacks: list[Any]) -> None:
    if not hasattr(router, "registry"):
        router.content_policy_fallbacks = fallbacks
        return
    changes = importlib.import_module("litellm.router_api").ChangeSet
    router.apply(changes(assign={"content_policy_fallbacks": fallbacks}))


def _groups(router: Any) -> list[str]:
    if hasattr(router, "registry"):
        return list(router.registry().names())
    return list(router.get_model_names())

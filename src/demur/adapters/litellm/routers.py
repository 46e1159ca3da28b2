"""A Router's content-policy fallbacks, read and set.

From 1.110 on the Router is a facade over another core, with other methods for both.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ...flow.plan import Plan
from ...vocabulary import Target
from .chain import entries
from .setup import Setup


def own_entries(router: Any, group: str) -> list[Any]:
    """What the operator has configured for ``group``."""
    return [
        entry
        for groups in _configured(router)
        if isinstance(groups, Mapping)
        for entry in groups.get(group) or ()
    ]


class Chains:
    """The policy's chains as the fallbacks of an SDK Router, if there is one.

    ``known`` says which group has which chain. Hooks see an SDK request only when its fallbacks
    have been read, so rules that match on metadata cannot be told apart here: their requests are
    judged, and not retried.
    """

    def __init__(self, router: Any) -> None:
        self._router = router
        self._own = {} if router is None else {g: own_entries(router, g) for g in _groups(router)}
        self.known: dict[str, tuple[Target, ...]] = {}

    def hand_over(self, setup: Setup) -> None:
        """Set the Router's fallbacks to what the policy says, and the operator said at first."""
        known: dict[str, tuple[Target, ...]] = {}
        handed: list[Any] = []
        for group, own in self._own.items():
            plan = Plan.of(setup.policy, api="chat", model=group, stream=False, metadata={})
            if plan is not None and plan.enforced and plan.chain:
                known[group] = plan.chain
                handed.append({group: entries(plan, {}, own)})
            elif own:
                handed.append({group: own})
        if known or self.known:
            _configure(self._router, handed)
        self.known = known


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

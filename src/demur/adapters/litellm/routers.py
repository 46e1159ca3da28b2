"""A Router's content-policy fallbacks, read and set.

From 1.110 on the Router is a facade over another core, with other methods for both.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from ...flow.plan import Plan
from ...vocabulary import Target
from .chain import entries
from .setup import Setup


def own_entries(router: Any, group: str, request: Mapping[str, Any] | None = None) -> list[Any]:
    """What the operator wants called when the provider of ``group`` refuses for its policy.

    As the Router chooses: of its content-policy fallbacks, and only where it has no such list of
    those for any error, which ``request`` may bring itself. Without a request not of these.
    """
    for_errors = (
        None if request is None else request.get("fallbacks", _setting(router, "fallbacks"))
    )
    return _chosen(_setting(router, "content_policy_fallbacks"), for_errors, group)


def _chosen(for_policy: Any, for_errors: Any, group: str) -> list[Any]:
    listed = for_errors if for_policy is None else for_policy
    if not isinstance(listed, list | tuple):
        return []
    found, _ = get_fallback_model_group(fallbacks=listed, model_group=group)
    return list(found or ())


def gives_back(router: Any) -> bool:
    """Whether a filtered response that ends a chain is served: from 1.110 on it is an error."""
    return not _is_facade(router)


class Chains:
    """The policy's chains as the fallbacks of an SDK Router, if there is one.

    ``known`` says which group has which chain. Hooks see an SDK request only when its fallbacks
    have been read, so rules that match on metadata cannot be told apart here: their requests are
    judged, and not retried.
    """

    def __init__(self, router: Any) -> None:
        self._router = router
        # Of these the Router chooses for a policy error; its own list is replaced below.
        self._listed: Any = None
        self._for_errors: Any = None
        if router is not None:
            self._listed = _setting(router, "content_policy_fallbacks")
            self._for_errors = _setting(router, "fallbacks")
        self.known: dict[str, tuple[Target, ...]] = {}

    def hand_over(self, setup: Setup) -> None:
        """Set the Router's fallbacks to what the policy says, and the operator said at first."""
        known: dict[str, tuple[Target, ...]] = {}
        handed: list[Any] = []
        for group in () if self._router is None else _groups(self._router):
            plan = Plan.of(setup.policy, api="chat", model=group, stream=False, metadata={})
            if plan is not None and plan.enforced and plan.chain:
                known[group] = plan.chain
                own = _chosen(self._listed, self._for_errors, group)
                handed.append({group: entries(plan, {}, own)})
        if known or self.known:
            merged = [*handed, *(self._listed or ())]
            _configure(self._router, merged if known else self._listed)
        self.known = known


def _is_facade(router: Any) -> bool:
    """Whether it is one of 1.110 or later."""
    return hasattr(router, "registry")


def _setting(router: Any, name: str) -> Any:
    return getattr(router.settings() if _is_facade(router) else router, name, None)


def _configure(router: Any, fallbacks: Any) -> None:
    if not _is_facade(router):
        router.content_policy_fallbacks = fallbacks
        return
    changes = importlib.import_module("litellm.router_api").ChangeSet
    router.apply(changes(assign={"content_policy_fallbacks": fallbacks}))


def _groups(router: Any) -> list[str]:
    if _is_facade(router):
        return list(router.registry().names())
    return list(router.get_model_names())

"""A Router's content-policy fallbacks, read and set.

From 1.110 on the Router is a facade over another core, with other methods for both.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from litellm.router_utils.fallback_event_handlers import get_fallback_model_group
from litellm.types.router import RetryPolicy

from ...flow.plan import Plan
from ...policy.globs import is_literal
from ...policy.schema import as_tuple
from ...vocabulary import Target
from .chain import entries
from .setup import Setup


def own_entries(
    router: Any, group: str, request: Mapping[str, Any], *, errors: bool = True
) -> list[Any]:
    """What the operator wants called when the provider of ``group`` refuses for its policy.

    As the Router chooses: of its content-policy fallbacks, and only where it has no such list of
    those for any error; not of these without ``errors``.
    """
    for_errors = holding(router, request, "fallbacks") if errors else None
    return _chosen(holding(router, request, "content_policy_fallbacks"), for_errors, group)


def holding(router: Any, request: Mapping[str, Any], name: str) -> Any:
    """A setting of the Router's as it holds for a request of the proxy's: the caller's own, that of
    its key or team, or the Router's."""
    if name in request:
        return request[name]
    override = request.get("router_settings_override")
    found = override.get(name) if isinstance(override, Mapping) else None
    return setting(router, name) if found is None else found


def setting(router: Any, name: str) -> Any:
    """A setting of the Router's; ``None`` where it has none of that name."""
    return getattr(router.settings() if _is_facade(router) else router, name, None)


def never_again(
    plan: Plan, by_group: Any, for_all: Any
) -> dict[str, Mapping[str, Any] | RetryPolicy]:
    """Retry policies by group under which no refused attempt of ``plan`` is repeated.

    A refused attempt looks like a provider's policy error to the Router, and its retry policy goes
    before everything else. ``by_group`` and ``for_all`` are what the Router has so far.
    """
    found = dict(by_group or {})
    for group in plan.models:
        policy = found.get(group, for_all)
        if policy is not None:
            known = policy if isinstance(policy, Mapping) else policy.model_dump()
            found[group] = RetryPolicy(**{**known, "ContentPolicyViolationErrorRetries": 0})
    return found


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
        self._retried: Any = None
        if router is not None:
            self._listed = setting(router, "content_policy_fallbacks")
            self._for_errors = setting(router, "fallbacks")
            self._retried = setting(router, "model_group_retry_policy")
        self.known: dict[str, tuple[Target, ...]] = {}

    def hand_over(self, setup: Setup) -> None:
        """Set the Router's fallbacks to what the policy says, and the operator said at first."""
        known: dict[str, tuple[Target, ...]] = {}
        handed: list[Any] = []
        retried: Any = self._retried
        for_all = None if self._router is None else setting(self._router, "retry_policy")
        for group in () if self._router is None else self._groups(setup):
            plan = Plan.of(setup.policy, api="chat", model=group, stream=False, metadata={})
            if plan is not None and plan.enforced and plan.chain:
                known[group] = plan.chain
                own = _chosen(self._listed, self._for_errors, group)
                handed.append({group: entries(plan, {}, own)})
                retried = never_again(plan, retried, for_all)
        if known or self.known:
            merged = [*handed, *(self._listed or ())]
            _configure(
                self._router,
                content_policy_fallbacks=merged if known else self._listed,
                model_group_retry_policy=retried or self._retried,
            )
        self.known = known

    def _groups(self, setup: Setup) -> Iterable[str]:
        """The Router's, and the models that rules name: a wildcard group may serve these."""
        named = (name for rule in setup.policy.rules for name in as_tuple(rule.match.model or ()))
        return dict.fromkeys([*_groups(self._router), *filter(is_literal, named)])


def _is_facade(router: Any) -> bool:
    """Whether it is one of 1.110 or later."""
    return hasattr(router, "registry")


def _configure(router: Any, **settings: Any) -> None:
    # A facade knows no retry policies, and takes no setting that it does not know.
    changed = {name: value for name, value in settings.items() if value != setting(router, name)}
    if _is_facade(router):
        changes = importlib.import_module("litellm.router_api").ChangeSet
        router.apply(changes(assign=changed))
        return
    for name, value in changed.items():
        setattr(router, name, value)


def _groups(router: Any) -> list[str]:
    if _is_facade(router):
        return list(router.registry().names())
    return list(router.get_model_names())

"""A request that starts at a fallback: what the Router is asked in its place.

Where a request starts is found before the Router is called. The Router then makes the fallback's
call as the first one. What is refused goes on along the chain, like any refusal; what fails, along
the chain and then to the model that the caller asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ...drivers.awaiting import Port, run_completion
from ...flow.cells import CONVERSATION_HEADER
from ...flow.consulting import start_flow
from ...flow.plan import Plan
from ...vocabulary import Target
from . import chain, routers
from .exchange import Exchange
from .headers import mark_fallback


async def find_start(found: Exchange) -> None:
    """Ask where the request starts, if the policy wants that asked, and note it."""
    if found.plan.cells is not None:
        flow = start_flow(found.plan)
        # The flow asks for rights and for what the store knows; it calls nobody.
        port = cast("Port", found)
        found.start_at(await run_completion(flow, port, found.detector, found.store))


def reroute(found: Exchange, data: dict[str, Any], router: Any) -> None:
    """Have the Router call the target the request starts at, and what may follow it.

    Refusals in a stream are no matter of the Router's, only errors are.
    """
    target = found.start.at
    assert target is not None
    original = dict(data)
    plan = _from(found.plan, target)
    own = []
    if not found.stream:
        own = routers.own_entries(router, target.model, original, errors=False)
    # The last call, to the model that was asked for, is the original request again.
    asked: dict[str, Any] = {"model": found.plan.requested.model}
    asked |= {name: original.get(name) for name in sorted(_patched(plan))}
    entries = chain.entries(plan, original, own)[1:]
    following = [entry for entry in entries if not _is_kept(entry)]
    kept = len(following) < len(entries)
    handed = [*following, {**asked, "mock_response": chain.KEPT}] if kept else following
    data.update({**target.patch, "model": target.model})
    configured = routers.holding(router, original, "fallbacks")
    others = configured if isinstance(configured, list | tuple) else ()
    data["fallbacks"] = [{target.model: [*following, asked]}, *others]
    if not found.stream:
        data["content_policy_fallbacks"] = [{target.model: handed}]
        spare_retries(found.plan, data, router)
    data["max_fallbacks"] = max(len(handed) + 1, router.max_fallbacks)


def hand_over(found: Exchange, data: dict[str, Any], router: Any) -> None:
    """Have the Router call the chain for what is refused.

    A stream's refusal is no matter of the Router's: it gets the chain only for a provider's policy
    error, where the rule wants that.
    """
    plan, model = found.plan, found.plan.requested.model
    if found.stream and not (plan.rule.retry and plan.rule.retry.provider_errors):
        return
    own = routers.own_entries(router, model, data)
    if found.stream:
        handed = [*chain.hops(plan, data), *own]
    else:
        handed = chain.entries(plan, data, own)
        found.own = frozenset(chain.groups_of(own))
        found.gives_back = routers.gives_back(router)
        spare_retries(plan, data, router)
    data["content_policy_fallbacks"] = [{model: handed}]
    data["max_fallbacks"] = max(len(handed), router.max_fallbacks)


def spare_retries(plan: Plan, data: dict[str, Any], router: Any) -> None:
    """Keep the Router's retry policies from repeating what is refused."""
    by_group = routers.holding(router, data, "model_group_retry_policy")
    found = routers.never_again(plan, by_group, routers.setting(router, "retry_policy"))
    if found:
        data["model_group_retry_policy"] = found


def call_after_all(found: Exchange, kwargs: dict[str, Any]) -> None:
    """Where nobody has answered, the end of the chain is the caller's own call, and no mock."""
    if found.moved and not found.begun and _is_kept(kwargs):
        del kwargs["mock_response"]


def show_start(found: Exchange, response: Any) -> None:
    """Let LiteLLM show who answered, as it does after a fallback of its own."""
    outcome = found.outcome
    if outcome is None:
        return
    hidden = getattr(response, "_hidden_params", None)
    if found.shown is not None and isinstance(hidden, dict):
        hidden.update({k: v for k, v in found.shown.items() if k != "additional_headers"})
    if found.shown is not None or (found.moved and outcome.fell_back):
        mark_fallback(response, outcome)


def conversation_of(data: Mapping[str, Any]) -> str | None:
    """What a header of the request names as its conversation."""
    proxied = data.get("proxy_server_request")
    headers = proxied.get("headers") if isinstance(proxied, Mapping) else None
    for given in (headers, data.get("extra_headers"), data.get("headers")):
        for name, value in given.items() if isinstance(given, Mapping) else ():
            if str(name).lower() == CONVERSATION_HEADER:
                return str(value)
    return None


def _from(plan: Plan, target: Target) -> Plan:
    """The plan with no more of its chain than may still be called, ``target`` the first."""
    retry = plan.rule.retry
    rest = plan.chain[plan.chain.index(target) :]
    if retry is None or retry.attempts is None:
        return replace(plan, chain=rest)
    unlimited = retry.model_copy(update={"attempts": None})
    rule = plan.rule.model_copy(update={"retry": unlimited})
    return replace(plan, chain=rest[: retry.attempts], rule=rule)


def _patched(plan: Plan) -> set[str]:
    return {name for target in plan.chain for name in target.patch}


def _is_kept(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("mock_response") == chain.KEPT

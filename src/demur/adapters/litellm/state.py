"""Where requests through LiteLLM share state: the policy's store, else the proxy's own Redis."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio.to_thread
import litellm

from ...flow.ledger import Operation, Told
from ...flow.plan import Plan
from ...policy import Policy
from ...policy.standing_settings import Price, Shared
from ...stores import Store, remembers, store_for
from ...stores.bounded import Bounded
from ...stores.memory import MemoryStore
from ...stores.redis import RedisStore
from .rights import proxy_router

_log = logging.getLogger("demur")


def store_of(policy: Policy, before: tuple[Policy, Store | None] | None) -> Store | None:
    """The store a policy asks for. What the policy ``before`` remembered alike is kept."""
    if not remembers(policy):
        return None
    if before is not None and before[1] is not None and before[0].shared == policy.shared:
        return before[1]
    shared = policy.shared or Shared()
    return store_for(policy) if shared.redis_env is not None else GatewayStore(shared)


class GatewayStore:
    """The Redis that the proxy has for itself, where it has one; else the process's memory.

    The proxy may get its Redis later than its guardrails, or another one.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._memory = MemoryStore()
        self._cache: Any = None
        self._store: Store = self._memory

    def ask(self, operations: Sequence[Operation]) -> Told:
        cache = proxy_cache()
        if cache is not self._cache:
            self._use(cache, None if cache is None else self._client_like(cache))
        return self._store.ask(operations)

    async def aask(self, operations: Sequence[Operation]) -> Told:
        cache = proxy_cache()
        if cache is not self._cache:
            made = partial(self._client_like, cache)
            self._use(cache, None if cache is None else await anyio.to_thread.run_sync(made))
        return await self._store.aask(operations)

    def _use(self, cache: Any, client: Any) -> None:
        self._cache = cache
        self._store = self._memory
        if client is not None:
            store = RedisStore(client, self._shared.prefix)
            self._store = Bounded(store, self._shared.seconds)

    def _client_like(self, cache: Any) -> Any:
        """A client for the same server that does not wait as long as LiteLLM's does."""
        from litellm._redis import get_redis_client

        seconds = self._shared.seconds
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        try:
            return get_redis_client(**{**cache.redis_kwargs, **limits})  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - the fail-open edge
            _log.warning(
                "demur: LiteLLM's Redis is not used, each process remembers for itself: %s",
                type(error).__name__,
            )
            return None


def proxy_cache() -> Any:
    """LiteLLM's own cache object for its Redis; ``None`` outside a proxy, or without one."""
    server = sys.modules.get("litellm.proxy.proxy_server")
    found = getattr(server, "redis_usage_cache", None)
    if found is None and server is not None:
        found = getattr(getattr(proxy_router(), "cache", None), "redis_cache", None)
    return found


def priced(plan: Plan) -> Plan:
    """The plan with LiteLLM's prices for its chain, where a budget limits the cost."""
    cells = plan.cells
    if cells is None or not any(
        name == "cost" for budget in cells.budgets for name, _ in budget.limits
    ):
        return plan
    found = {
        target.name: price
        for target in plan.chain
        if not {target.name, target.model} & cells.prices.keys()
        and (price := _price(target.model)) is not None
    }
    return replace(plan, cells=replace(cells, prices={**cells.prices, **found})) if found else plan


def _price(model: str) -> Price | None:
    """Of the proxy's model group of that name, else of LiteLLM's list."""
    router = proxy_router()
    try:
        info: Any = router and router.get_model_group_info(model, include_hidden=True)
        if info is None or info.input_cost_per_token is None:
            listed: Any = litellm.get_model_info(model)
            costs = listed["input_cost_per_token"], listed["output_cost_per_token"]
        else:
            costs = info.input_cost_per_token, info.output_cost_per_token
    except Exception:  # noqa: BLE001 - what LiteLLM does not know has no price
        return None
    before, after = (1e6 * float(cost or 0.0) for cost in costs)
    return Price(input=before, output=after)

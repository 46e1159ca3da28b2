"""May this caller use that model, and pay for it? The proxy's own checks, asked in advance.

The Router asks them too before each of its fallbacks; demur must know before it refuses a
response, and for the streams it opens itself nobody else asks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ...vocabulary import Target


def proxy_router() -> Any:
    """The proxy's Router; ``None`` outside a proxy, or where it has none."""
    return getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)


async def usable_in_proxy(
    caller: Any, router: Any, targets: Sequence[Target]
) -> tuple[Target, ...]:
    """Those of ``targets`` the caller behind ``caller`` (a ``UserAPIKeyAuth``) may be served from.

    The proxy calls its own models only: a target with a ``base_url`` is for wrapped clients.
    """
    own = [target for target in targets if target.base_url is None and target.api_key_env is None]
    return tuple([target for target in own if await _may_use(target.model, caller, router)])


async def everybody(targets: Sequence[Target]) -> tuple[Target, ...]:
    """In the SDK the caller holds the keys."""
    return tuple(targets)


async def nobody(targets: Sequence[Target]) -> tuple[Target, ...]:
    """For requests nobody can fall back for."""
    return ()


async def _may_use(model: str, caller: Any, router: Any) -> bool:
    from litellm.proxy.auth.fallback_budget import is_token_within_budget_for_model
    from litellm.proxy.auth.fallback_model_access import is_model_authorized_for_token
    from litellm.proxy.proxy_server import general_settings

    if router is None:
        return False
    if caller is None:
        return True
    if general_settings.get(
        "enforce_fallback_model_access", True
    ) and not await is_model_authorized_for_token(
        model=model, valid_token=caller, llm_router=router
    ):
        return False
    return not general_settings.get(
        "enforce_fallback_budget", True
    ) or await is_token_within_budget_for_model(model=model, valid_token=caller, llm_router=router)

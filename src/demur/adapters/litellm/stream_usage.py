"""How many tokens a fallback's stream took: asked for as the proxy asks for its own streams.

The proxy asks OpenAI-like models for a last chunk with the usage, and keeps that chunk from callers
who have not asked. It decides so for the model that was requested; a fallback may be another kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .spend import metadata_of

_OPTIONS: Final = "stream_options"
STRIP: Final = "_litellm_strip_stream_usage"


def strip_from_fallbacks(request: dict[str, Any]) -> None:
    """Have the proxy keep the chunk from this caller, whichever model sends one."""
    if request.get("stream") is True and _OPTIONS not in request:
        request[STRIP] = True


def with_usage(fallback: dict[str, Any], router: Any) -> dict[str, Any]:
    """A fallback's request for a chat stream: asks for the usage if its model knows how to."""
    from litellm.proxy.common_request_processing import (
        model_deployments_support_stream_options,
        stream_usage_tracking_updates,
    )
    from litellm.proxy.proxy_server import general_settings

    own = {k: v for k, v in fallback.items() if k != STRIP}
    if fallback.get(STRIP):
        own.pop(_OPTIONS, None)
    changes: Mapping[str, Any] = stream_usage_tracking_updates(
        data=own,
        general_settings=general_settings,
        route_type="acompletion",
        supports_stream_options=lambda: model_deployments_support_stream_options(
            own.get("model"), router, metadata_of(own).get("user_api_key_team_id")
        ),
    )
    return {**own, **{k: v for k, v in changes.items() if k != STRIP}}

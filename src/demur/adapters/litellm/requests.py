"""What a request says about itself, as LiteLLM's hooks get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...vocabulary import Api
from .spend import metadata_of


def matchable(data: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata rules may match: the caller's own and the gateway's, which wins."""
    metadata = metadata_of(data)
    return {**_of_caller(metadata), **{k: v for k, v in metadata.items() if _is_plain(v)}}


def opted_out(data: Mapping[str, Any]) -> bool:
    """Whether the caller asked for no demur: ``metadata: {demur: off}``."""
    metadata = metadata_of(data)
    wish = _of_caller(metadata).get("demur", metadata.get("demur"))
    return wish is False or (isinstance(wish, str) and wish.lower() in ("off", "false"))


def through_proxy(data: Mapping[str, Any]) -> bool:
    """Whether a hook was called for a request to the proxy, not to the SDK nor in a batch."""
    return data.get("proxy_server_request") is not None


def is_streamed(api: Api, data: Mapping[str, Any]) -> bool:
    """Whether a proxy streams a request: as the caller asks, or to answer in the background."""
    return data.get("stream") is True or (api == "responses" and _is_polled(data))


def choices_of(data: Mapping[str, Any]) -> int:
    """How many choices the request asks for."""
    n = data.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def _is_polled(data: Mapping[str, Any]) -> bool:
    """Whether the caller is going to ask the proxy's cache for a response, which is told nowhere
    in the request before it is streamed there."""
    if not data.get("background"):
        return False
    from litellm.proxy import proxy_server as proxy
    from litellm.proxy.response_polling.polling_handler import should_use_polling_for_request

    return should_use_polling_for_request(
        background_mode=True,
        polling_via_cache_enabled=proxy.polling_via_cache_enabled,
        redis_cache=proxy.redis_usage_cache,
        model=str(data.get("model")),
        llm_router=proxy.llm_router,
        native_background_mode=proxy.native_background_mode,
    )


def _of_caller(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    own = metadata.get("requester_metadata")
    return own if isinstance(own, Mapping) else {}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)

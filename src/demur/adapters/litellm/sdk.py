"""Plain ``litellm.acompletion``, without a Router: demur makes the fallback calls itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import litellm
from litellm.exceptions import BadRequestError

from ...vocabulary import Target
from .spend import metadata_of

_ASKED: Final = "_demur_asked"
_ONCE: Final = {"max_retries": 0, "num_retries": 0}
_OF_THE_FIRST_CALL = frozenset({"litellm_call_id", "litellm_logging_obj", "fallbacks"})


async def call(request: Mapping[str, Any], target: Target) -> Any:
    """A fallback's response to the original request."""
    return await litellm.acompletion(**fallback_request(request, target))


def falls_back(kwargs: Mapping[str, Any]) -> bool:
    """Whether an SDK's Router may fall back at all for a request."""
    return not metadata_of(kwargs).get("_disable_fallbacks") and kwargs.get("max_fallbacks") != 0


def note_positional(kwargs: Mapping[str, Any]) -> None:
    """Arguments given by position are in no hook's: before the call the logging object has them."""
    logging_obj = kwargs.get("litellm_logging_obj")
    if logging_obj is not None and ("model" not in kwargs or "messages" not in kwargs):
        asked = {"model": logging_obj.model, "messages": logging_obj.messages}
        setattr(logging_obj, _ASKED, asked)


def with_positional(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The same arguments, and those."""
    asked = getattr(kwargs.get("litellm_logging_obj"), _ASKED, None)
    return kwargs if asked is None else {**asked, **kwargs}


def fallback_request(
    request: Mapping[str, Any], target: Target, *, routed: bool = False
) -> dict[str, Any]:
    """The original request, patched for ``target``, which is called once.

    A call that is ``routed`` goes to a Router's model group: whether that tries another of its
    deployments is for the Router's settings to say.

    Another provider never gets this provider's key or address: LiteLLM then looks up its own.
    """
    fresh = {k: v for k, v in request.items() if k not in _OF_THE_FIRST_CALL and v is not None}
    elsewhere = target.base_url is not None or target.api_key_env is not None
    if elsewhere or _provider(target.model) != _provider(str(request.get("model"))):
        for name in ("api_key", "api_base", "base_url", "api_version", "organization", "client"):
            fresh.pop(name, None)
        fresh.pop("extra_headers", None)
    if target.base_url is not None:
        fresh["api_base"] = target.base_url
    if target.api_key_env is not None:
        fresh["api_key"] = os.environ.get(target.api_key_env)
    once = {} if routed else _ONCE
    return {**fresh, **target.patch, **once, "model": target.model}


def _provider(model: str) -> str:
    try:
        return str(litellm.get_llm_provider(model)[1])
    except BadRequestError:
        return model

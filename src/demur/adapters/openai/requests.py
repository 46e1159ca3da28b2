"""Reading a request's options, and changing a copy of them for a fallback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai import NotGiven
from openai._models import FinalRequestOptions

from ...flow.cells import CONVERSATION_HEADER
from ...vocabulary import Api, Target

_PATHS: dict[str, Api] = {"/chat/completions": "chat", "/responses": "responses"}

_RAW_HEADER = "X-Stainless-Raw-Response"

# A fallback on another host must not be shown the first one's credentials.
_CREDENTIALS = {"authorization", "api-key", "x-api-key", "openai-organization", "openai-project"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy needs to know of a request."""

    api: Api
    model: str
    metadata: Mapping[str, Any]
    choices: int
    conversation: str | None


def read_request(options: FinalRequestOptions) -> Request | None:
    """The request as a policy sees it; ``None`` for everything that is not ours to judge."""
    api = _PATHS.get(options.url)
    if api is None or options.method.lower() != "post":
        return None
    body = {**_mapping(options.json_data), **_mapping(options.extra_json)}
    model = body.get("model")
    if not isinstance(model, str):
        return None
    choices = body.get("n")
    return Request(
        api=api,
        model=model,
        metadata=_mapping(body.get("metadata")),
        choices=choices if isinstance(choices, int) and choices > 1 else 1,
        conversation=_header(options, CONVERSATION_HEADER),
    )


def for_fallback(
    options: FinalRequestOptions, target: Target, timeout: float | None, *, elsewhere: bool
) -> FinalRequestOptions:
    """The original request as ``target`` gets it: its own model, patch and idempotency key."""
    changes = {"model": target.model, **target.patch}
    # `extra_body` beats the body, so what it sets is changed there too.
    extra = _mapping(options.extra_json)
    update: dict[str, Any] = {
        "json_data": {**_mapping(options.json_data), **changes},
        "idempotency_key": None,
    }
    if extra:
        update["extra_json"] = {**extra, **{k: v for k, v in changes.items() if k in extra}}
    if timeout is not None:
        update["timeout"] = timeout
    headers = given_headers(options)
    if elsewhere and headers:
        update["headers"] = {k: v for k, v in headers.items() if k.lower() not in _CREDENTIALS}
    return options.model_copy(update=update)


def wants_raw(options: FinalRequestOptions) -> bool:
    """Whether the caller asked for the raw response: what is parsed from it is the caller's."""
    return _header(options, _RAW_HEADER) is not None


def given_headers(options: FinalRequestOptions) -> Mapping[str, Any]:
    return {} if isinstance(options.headers, NotGiven) else options.headers


def _header(options: FinalRequestOptions, wanted: str) -> str | None:
    for name, value in given_headers(options).items():
        if name.lower() == wanted.lower():
            return str(value)
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

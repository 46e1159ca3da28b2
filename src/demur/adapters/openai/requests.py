"""Reading a request's options, and changing a copy of them for a fallback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai import NotGiven, Omit
from openai._models import FinalRequestOptions

from ...drivers.timed import shortened
from ...flow.cells import CONVERSATION_HEADER
from ...vocabulary import Api, Target

_PATHS: dict[str, Api] = {"/chat/completions": "chat", "/responses": "responses"}

_RAW_HEADER = "X-Stainless-Raw-Response"

_IDEMPOTENCY_HEADER = "idempotency-key"

# A fallback on another host must not be shown the first one's credentials, and nobody can list the
# names under which gateways take them; so only what is known to be harmless goes there.
_HARMLESS = {"accept", "accept-encoding", "accept-language", "content-type", "user-agent"}
_HARMLESS_PREFIXES = ("x-stainless-", "x-demur-")
_SECRET_FIELD = re.compile(
    r"api_?key|authorization|password|secret|credential|cookie|(access|auth|bearer|id)_?token$"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy needs to know of a request."""

    api: Api
    model: str
    metadata: Mapping[str, Any]
    choices: int
    conversation: str | None


def read_request(options: FinalRequestOptions, defaults: Mapping[str, Any]) -> Request | None:
    """The request as a policy sees it; ``None`` for everything that is not ours to judge.

    ``defaults`` are the headers that its client sends with every request.
    """
    api = _PATHS.get(_path(options))
    if api is None or options.method.lower() != "post":
        return None
    body = {**_mapping(options.json_data), **_mapping(options.extra_json)}
    model = body.get("model")
    if model is None and api == "responses":
        model = ""  # what the prompt says is the server's to know
    if not isinstance(model, str):
        return None
    choices = body.get("n")
    return Request(
        api=api,
        model=model,
        metadata=_mapping(body.get("metadata")),
        choices=choices if isinstance(choices, int) and choices > 1 else 1,
        conversation=_header({**defaults, **given_headers(options)}, CONVERSATION_HEADER),
    )


def for_fallback(
    options: FinalRequestOptions,
    target: Target,
    timeout: float | None,
    *,
    usual: Any,
    elsewhere: bool,
) -> FinalRequestOptions:
    """The original request as ``target`` gets it: its own model, patch and idempotency key.

    The SDK does not retry it. None of its waits is longer than ``timeout`` seconds, nor than the
    caller's own, ``usual``. What goes ``elsewhere`` leaves all that may be a credential behind.
    """
    changes = {"model": target.model, **target.patch}
    body, extra = _mapping(options.json_data), _mapping(options.extra_json)
    if elsewhere:
        body, extra = _without_secrets(body), _without_secrets(extra)
    headers = given_headers(options)
    update: dict[str, Any] = {
        "json_data": {**body, **changes},
        # `extra_body` beats the body, so what it sets is changed there too.
        "extra_json": {**extra, **{k: v for k, v in changes.items() if k in extra}} or None,
        "idempotency_key": None,
        "max_retries": 0,
    }
    if timeout is not None:
        update["timeout"] = shortened(usual, timeout)
    if headers:
        update["headers"] = {k: v for k, v in headers.items() if _travels(k, elsewhere=elsewhere)}
    if elsewhere:
        update["url"], update["params"] = _path(options), {}
    return options.model_copy(update=update)


def usual_timeout(options: FinalRequestOptions, client: Any) -> Any:
    """The timeout of a call without demur, in any of the SDK's shapes."""
    return client.timeout if isinstance(options.timeout, NotGiven) else options.timeout


def _path(options: FinalRequestOptions) -> str:
    return options.url.partition("?")[0]


def _travels(header: str, *, elsewhere: bool) -> bool:
    name = header.lower()
    if name == _IDEMPOTENCY_HEADER:
        return False
    return not elsewhere or name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def _without_secrets(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {k: v for k, v in body.items() if not _SECRET_FIELD.search(_snake(k))}


def _snake(name: object) -> str:
    return str(name).lower().replace("-", "_")


def wants_raw(options: FinalRequestOptions) -> bool:
    """Whether the caller asked for the raw response: what is parsed from it is the caller's."""
    return _header(given_headers(options), _RAW_HEADER) is not None


def given_headers(options: FinalRequestOptions) -> Mapping[str, Any]:
    return {} if isinstance(options.headers, NotGiven) else options.headers


def _header(headers: Mapping[str, Any], wanted: str) -> str | None:
    """The header's value; of several spellings the last one's."""
    found = [value for name, value in headers.items() if name.lower() == wanted.lower()]
    return str(found[-1]) if found and not isinstance(found[-1], Omit) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

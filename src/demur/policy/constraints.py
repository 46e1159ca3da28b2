"""What a policy may not say, beyond the types of its fields.

Each check raises pydantic's own error with a message made for the reader of a policy. No message
holds a value that could be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_plus, urlsplit

from pydantic_core import PydanticCustomError

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_PREFIX = re.compile(r"(sk|pk|rk|gsk|hf|xai|r8|nvapi|pplx|ghp|AIza|AKIA)[-_A-Za-z0-9]{16,}")
# As SQLAlchemy reads them: a password goes on to the @, and the drivers take one in the query too.
_DSN_LOGIN = re.compile(r"[^:]+://[^:/]*:[^@]+@")
_DSN_SECRET = re.compile(
    r"(^|[&;=\s{])\w*(password|passwd|pwd|passphrase)\s*=\s*[^&;\s]", re.IGNORECASE
)
_CREDENTIAL = re.compile(
    r"(^|[-_])(api[-_]?key|access[-_]?key|authorization|password|secret|(access|auth)[-_]?token)$",
    re.IGNORECASE,
)
_ELSEWHERE = ("base_url", "api_base", "api_key", "api_key_env")
_FIXED = ("stream", "stream_options", "n", "messages", "input")

Items = TypeVar("Items", bound=Sequence[Hashable])


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def distinct(items: Items) -> Items:
    twice = [item for i, item in enumerate(items) if item in items[:i]]
    if twice:
        raise _error(f"lists {twice[0]!r} twice; remove one")
    return items


NamedItems = TypeVar("NamedItems", bound=Sequence[_Named])


def unique_names(rules: NamedItems) -> NamedItems:
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules):
        if rule.name in seen:
            first = seen[rule.name]
            raise _error(
                f"rules[{first}] and rules[{index}] are both named {rule.name[:60]!r}; "
                "records could not tell them apart, so rename one"
            )
        seen[rule.name] = index
    return rules


def no_bool(version: object) -> object:
    """To Python ``true`` is 1; to YAML and the JSON Schema it is not."""
    if isinstance(version, bool):
        raise _error(f"{str(version).lower()} is no version; write version: 1")
    return version


def env_name(value: str) -> str:
    mixed = len(value) >= 24 and all(re.search(p, value) for p in ("[a-z]", "[A-Z]", "[0-9]"))
    if not _ENV_NAME.fullmatch(value) or _KEY_PREFIX.fullmatch(value) or mixed:
        raise _error(
            "is not the name of an environment variable (a key itself must not stand in a "
            "policy); put the key into a variable and write its name, such as LOCAL_API_KEY"
        )
    return value


def http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        shown = "what stands here" if set("@?#") & set(value) else repr(value[:60])
        raise _error(f"{shown} is not an http or https URL; write it like http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise _error("must not hold a user name or password; leave them out and use api_key_env")
    if "?" in value or "#" in value:
        raise _error("must not hold a query or a fragment; end it with the path, as in /v1")
    return value


def dsn_without_password(value: str) -> str:
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    if not scheme or "://" not in value:
        raise _error("is not a database URL; write it like sqlite:///audit.db")
    if _DSN_LOGIN.match(value) or _DSN_SECRET.search(unquote_plus(value.partition("?")[2])):
        raise _error(
            "must not hold a password; put the URL into an environment variable and name that "
            "with dsn_env"
        )
    return value


def no_shorter(chars: int, suspect_chars: int | None) -> None:
    if suspect_chars is not None and suspect_chars < chars:
        raise _error(
            f"suspect_chars: {suspect_chars} is less than chars: {chars}; give {chars} to hold "
            "every stream alike, or more"
        )


def one_place(*places: str | None) -> None:
    if sum(place is not None for place in places) != 1:
        raise _error("give one of path (a file), dsn or dsn_env (a database)")


def patch_keys(extra: Mapping[str, Any]) -> None:
    for key in _ELSEWHERE:
        if key in extra:
            raise _error(
                f"{key} is no request field; define the model under targets, with its "
                "base_url and api_key_env, and name that target here"
            )
    for key in _FIXED:
        if key in extra:
            raise _error(f"a fallback cannot change {key}: it answers the caller's own request")
    if (named := _credential(extra)) is not None:
        raise _error(
            f"{named[:60]!r} holds a key, which must not stand in a policy; define the model "
            "under targets, with api_key_env, or in the gateway's own configuration"
        )


def _credential(value: object) -> str | None:
    """The name of a text that is a key by its name, however deep it stands."""
    if isinstance(value, Mapping):
        named = (key for key, said in value.items() if isinstance(said, str))
        found = next((key for key in named if _CREDENTIAL.search(key)), None)
        return found or _credential(list(value.values()))
    parts = value if isinstance(value, list) else ()
    return next((key for part in parts if (key := _credential(part)) is not None), None)


def precision_of(backend: str, precision: str) -> None:
    if backend == "onnx" and precision == "bfloat16":
        raise _error("backend onnx computes in float32 or int8; leave precision at auto")
    if backend == "torch" and precision == "int8":
        raise _error(
            "backend torch does not compute in int8; export the model (demur export MODEL --to DIR "
            "--int8), then say model: DIR and backend: onnx"
        )


def model_named(protocol: str, model: str | None) -> None:
    if protocol == "kserve" and model is None:
        raise _error("protocol kserve needs model: the model's name there")


def remote_named(stages: Sequence[str], *, is_set: bool) -> None:
    if "remote" in stages and not is_set:
        raise _error("the stage remote needs a section remote: with url: and protocol:")


def rule_actions(actions: Sequence[str], *, retries: bool) -> None:
    if "retry" in actions and "error" in actions:
        raise _error(
            "actions holds both retry and error; leave out error and say under retry: "
            "exhausted: error"
        )
    if "retry" in actions and not retries:
        raise _error("the action retry needs a section retry: with fallbacks: [other-model]")


def budget_limits(*limits: object) -> None:
    if all(limit is None for limit in limits):
        raise _error("limits nothing; give calls, seconds or cost")


def _error(message: str) -> PydanticCustomError:
    return PydanticCustomError("policy", message)

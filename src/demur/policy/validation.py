"""Pydantic's errors, told in the words of the file: where, what, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .document import Document
from .outline import homes, known_keys
from .problem import InvalidPolicyError, Path, Problem
from .schema import Policy

_SHAPES = {
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
}
_PROXY_KEYS = {"model_list", "litellm_settings", "guardrails", "general_settings"}
_PROXY = (
    "is a configuration of LiteLLM's proxy; a policy stands in a file of its own, which the "
    "guardrail there names under litellm_params: demur: {policy: FILE}"
)
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
}


def validate(document: Document) -> Policy:
    """The policy a document describes. Raises ``InvalidPolicyError`` with all that is wrong."""
    problems = list(document.problems)
    if isinstance(document.data, dict) and _PROXY_KEYS & document.data.keys():
        problems.append(document.problem((), _PROXY))
    elif isinstance(document.data, dict):
        try:
            policy = Policy.model_validate(document.data)
        except ValidationError as error:
            problems.extend(_problems(error, document))
    else:
        message = f"a policy is a mapping such as version: 1, not {_shown(document.data)}"
        problems.append(document.problem((), message))
    if problems:
        raise InvalidPolicyError(problems)
    return policy


def _problems(error: ValidationError, document: Document) -> Iterator[Problem]:
    found = [
        (_path(details["loc"], document.data), details)
        for details in error.errors(include_url=False)
    ]
    told = [(path, details) for path, details in found if not _outdone(path, details, found)]
    told.sort(key=lambda pair: repr(pair[0]))
    spoiled = {problem.path for problem in document.problems}
    for path, group in groupby(told, key=lambda pair: pair[0]):
        errors = [details for _, details in group]
        if path not in spoiled or errors[0]["input"] not in (None, ""):
            yield document.problem(path, _message(path, errors))


def _path(loc: Iterable[str | int], data: Any) -> Path:
    """An error's place in the data: without the names pydantic gives the members of unions."""
    path: list[str | int] = []
    here = data
    parts = tuple(loc)
    for part in parts:
        known = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if known:
            here = here[part]
            path.append(part)
        elif part is parts[-1] and isinstance(here, dict) and part in known_keys(tuple(path)):
            path.append(part)
    return tuple(path)


def _outdone(path: Path, details: ErrorDetails, found: list[tuple[Path, ErrorDetails]]) -> bool:
    """Whether another error says better what this one says.

    A union complains once a member: where the value has the shape of one member, only that
    member's errors count. A list with errors in its items is also called too short.
    """
    if not _is_shape(details):
        return False
    inside = any(len(p) > len(path) and p[: len(path)] == path for p, _ in found)
    return inside or any(p == path and not _is_shape(other) for p, other in found)


def _is_shape(details: ErrorDetails) -> bool:
    kind, value = details["type"], details["input"]
    if kind in _SHAPES:
        return True
    if not isinstance(value, (dict, list)):
        return False
    return kind == "literal_error" or (kind == "too_short" and bool(value))


def _message(path: Path, group: list[ErrorDetails]) -> str:
    first = group[0]
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return "is missing; every entry here needs it"
    if kind == "literal_error":
        return _choice(value, path, str(context["expected"]))
    if kind in _SHAPES:
        return _shape(value, [_SHAPES[d["type"]] for d in group if d["type"] in _SHAPES])
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}, not {_shown(value)}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "too_short":
        return "must not be empty; give at least one"
    if kind == "string_pattern_mismatch":
        return "must not hold line breaks or other control characters"
    if kind == "policy":
        return first["msg"]
    return f"{first['msg'][:1].lower()}{first['msg'][1:]}, not {_shown(value)}"


def _unknown_key(path: Path) -> str:
    key, section = str(path[-1]), path[:-1]
    if _secret(path) and "env" not in key.lower():
        return "keys do not belong in a policy; name a variable that holds it with api_key_env"
    known = known_keys(section)
    if places := homes(key, section):
        return f"unknown key here; it belongs to {' or '.join(places)}"
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown key; {hint}Known here: {', '.join(known)}"


def _choice(value: Any, path: Path, expected: str) -> str:
    if path == ("version",):
        return f"{_shown(value)} is not a version this demur reads; write version: 1"
    allowed = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    close = difflib.get_close_matches(str(value), allowed, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{_shown(value)} is not allowed here, only {', '.join(allowed)}{hint}"


def _shape(value: Any, expected: list[str]) -> str:
    wanted = " or ".join(dict.fromkeys(expected))
    if value is None:
        return f"is empty; give {wanted}, or remove the key"
    remedy = ""
    if isinstance(value, (bool, int, float)) and "text" in expected:
        remedy = "; put it in quotes"
    elif isinstance(value, str) and "a list" in expected:
        remedy = f"; write a list: [{value[:60]}]"
    return f"must be {wanted}, not {_shown(value)}{remedy}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value) if isinstance(value, float) or abs(value) < 10**15 else "a huge number"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    return "a mapping" if isinstance(value, dict) else "a list"


def _secret(path: Path) -> bool:
    words = ("key", "token", "password", "secret", "authorization")
    return bool(path) and any(word in str(path[-1]).lower() for word in words)

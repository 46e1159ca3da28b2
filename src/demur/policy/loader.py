"""From a file, a text or a mapping to a policy, or to an error that says what to mend."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .document import Document, from_mapping, from_yaml
from .lint import lint
from .problem import InvalidPolicyError, Problem
from .schema import Policy
from .validation import validate

MAX_BYTES = 256 * 1024

logger = logging.getLogger(__name__)

Source = str | os.PathLike[str] | Mapping[str, Any] | Policy


def load_policy(source: Source) -> Policy:
    """The policy in the file ``source``, or in a mapping of the same shape.

    Raises ``PolicyError`` with everything that is wrong. What is legal but suspicious is logged as
    a warning.
    """
    policy, warnings = check_policy(source)
    for warning in warnings:
        logger.warning("%s", warning)
    return policy


def check_policy(source: Source) -> tuple[Policy, tuple[Problem, ...]]:
    """Like ``load_policy``, but hands the warnings over instead of logging them."""
    if isinstance(source, Policy):
        return source, tuple(lint(source))
    if isinstance(source, Mapping):
        return _check(from_mapping(source))
    if isinstance(source, (str, os.PathLike)) and isinstance(name := os.fspath(source), str):
        return _check(from_yaml(_read(name), name))
    kind = type(source).__name__
    raise _unreadable("policy", f"must be a path, a mapping or a Policy, not {kind}")


def parse_policy(text: str, source: str = "<policy>") -> Policy:
    """The policy in a YAML text; ``source`` is what errors call it."""
    return _check(from_yaml(text, source))[0]


def _check(document: Document) -> tuple[Policy, tuple[Problem, ...]]:
    policy = validate(document)
    return policy, tuple(
        replace(warning, source=document.source, line=document.line(warning.path))
        for warning in lint(policy)
    )


def _read(name: str) -> str:
    if "\n" in name:
        raise _unreadable("<policy>", "this is a text, not a path; use demur.policy.parse_policy")
    try:
        with Path(name).expanduser().open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file; check the path") from None
    except IsADirectoryError:
        raise _unreadable(name, "is a directory; name the YAML file in it") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(name, f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise _unreadable(name, f"is larger than {MAX_BYTES // 1024} KiB; is it a policy?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _unreadable(name, "is not UTF-8 text; save it as UTF-8", line) from None


def _unreadable(source: str, message: str, line: int | None = None) -> InvalidPolicyError:
    return InvalidPolicyError([Problem(source, (), message, line)])

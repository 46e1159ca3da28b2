"""One guardrail a process: two would both judge, and fall back, for the same request."""

from __future__ import annotations

import logging
from typing import Any

import litellm

from ...errors import PolicyError

_log = logging.getLogger("demur")
_told: set[int] = set()


def check_loaded_once(kind: type, name: str, source: object, *, in_config: bool) -> None:
    """Raise ``PolicyError`` if another guardrail of ``kind`` is loaded already, elsewhere.

    Not for one of the same name, policy ``source`` and place, which is being loaded again.
    ``in_config`` says that this one comes from a proxy's ``guardrails:``.
    """
    for other in litellm.callbacks:
        if type(other) is not kind:
            continue
        known: Any = other
        there = known.event_hook is not None
        beside = there == in_config
        alike = beside and known.guardrail_name == name
        if (beside and not in_config) or (alike and known.source == source):
            continue
        raise PolicyError(
            f"demur is loaded twice: as {_place(known.guardrail_name, there)} and as "
            f"{_place(name, in_config)}{', with another policy' if alike else ''}; "
            "keep one of them"
        )


def _place(name: str, in_config: bool) -> str:
    return f"the guardrail {name!r}" if in_config else "a callback in litellm.callbacks"


def stands_aside(guardrail: object) -> bool:
    """Whether another guardrail of its kind comes first among LiteLLM's callbacks."""
    first = next((c for c in litellm.callbacks if type(c) is type(guardrail)), guardrail)
    if first is guardrail:
        return False
    if id(guardrail) not in _told:
        _told.add(id(guardrail))
        _log.error(
            "demur is in litellm.callbacks twice; the first one works, this one does nothing: "
            "keep one of them"
        )
    return True

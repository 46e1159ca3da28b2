"""How an outcome rides on a response without showing up in it.

SDK objects are pydantic models, streams and raw responses; a public field on them would leak into
``model_dump()`` and from there into the next request. An underscore attribute does not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .vocabulary import Outcome

_ATTRIBUTE = "_demur_outcome"
EXTENSION = "demur_outcome"
"""Key in an HTTP response's ``extensions``."""

Source = Callable[[], Outcome | None]
"""Gives the outcome as it now stands: that of a stream grows while it runs."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A source whose outcome stands. It can be pickled, and so can what carries it."""

    outcome: Outcome | None

    def __call__(self) -> Outcome | None:
        return self.outcome


def attach(response: Any, source: Source) -> None:
    """Make ``outcome_of(response)`` answer with what ``source`` gives, if it takes attributes."""
    if isinstance(response, dict | list | str | bytes | int | float | None):
        return
    # What takes no attributes, a parser's tuple for one, goes to its caller without.
    with suppress(AttributeError, TypeError):
        object.__setattr__(response, _ATTRIBUTE, source)


def outcome_of(response: Any) -> Outcome | None:
    """What demur saw and did for this response; ``None`` where it was not tagged.

    Takes whatever a wrapped client returned: a completion, a stream (while and after it runs), a
    raw or streaming response, the HTTP response itself; likewise what LiteLLM returned.
    """
    within = ("http_response", "response", "_response", "_raw_stream")
    for holder in (response, *(getattr(response, name, None) for name in within)):
        source = getattr(holder, "__dict__", {}).get(_ATTRIBUTE)
        if source is None:
            extensions = getattr(holder, "extensions", None)
            source = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
        if callable(source):
            outcome: Outcome | None = source()
            return outcome
    return None

"""Message content, as a string or as a list of parts: what of it is text, what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .fields import sequence, string

_TEXT = frozenset({"text", "output_text"})
_REASONING = frozenset(
    {"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text", "compaction"}
)


@dataclass(frozen=True, slots=True)
class Content:
    """``text`` and ``refusal`` are visible; ``non_text`` marks what no text can hold."""

    text: str = ""
    refusal: str = ""
    non_text: bool = False
    reasoning: bool = False


def read_content(value: object) -> Content:
    """Content in any shape. What is not known to be text counts as something delivered."""
    if value is None:
        return Content()
    if isinstance(value, str):
        return Content(text=value)
    if not isinstance(value, list | tuple):
        return Content(non_text=True)
    return joined(read_part(part) for part in sequence(value))


def joined(found: Iterable[Content]) -> Content:
    """All of it as one."""
    parts = list(found)
    return Content(
        "".join(part.text for part in parts),
        "".join(part.refusal for part in parts),
        any(part.non_text for part in parts),
        any(part.reasoning for part in parts),
    )


def read_part(part: object) -> Content:
    """One part of a list of content."""
    if isinstance(part, str):
        return Content(text=part)
    if not isinstance(part, Mapping):
        return Content()
    kind = string(part.get("type"))
    if kind in _TEXT or (not kind and "text" in part):
        return Content(text=_text(part))
    if kind == "refusal":
        return Content(refusal=string(part.get("refusal")))
    if kind in _REASONING:
        return Content(reasoning=True)
    return Content(non_text=True)


def _text(part: Mapping[str, Any]) -> str:
    value = part.get("text")
    # Assistants-style parts nest it: {"text": {"value": "..."}}.
    return string(value.get("value")) if isinstance(value, Mapping) else string(value)

"""What a caller saw of an answer, read in the same way from every form it can come in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demur.vocabulary import Outcome

DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
    }
)


@dataclass(slots=True)
class Sighting:
    """``models`` are the names that the answer came under, ``error`` the exception's type name,
    ``cause`` what it came of.

    ``left``: the caller went of its own accord before the end.
    """

    text: str = ""
    models: set[str] = field(default_factory=set)
    error: str | None = None
    cause: str = ""
    left: bool = False
    outcome: Outcome | None = None

    def see(self, payload: Mapping[str, Any]) -> None:
        """An item of a stream, or a whole response."""
        self.text += _text(payload)
        name = (payload.get("response") or payload).get("model")
        if name:
            self.models.add(name.partition(".")[0])

    def see_object(self, item: Any) -> None:
        self.see(item.model_dump(warnings=False))

    def see_line(self, line: str) -> None:
        """A line of a stream of events; what is no JSON raises, as it would in the SDK."""
        if line.startswith("data: ") and line != "data: [DONE]":
            self.see(json.loads(line[6:]))


def _text(payload: Mapping[str, Any]) -> str:
    kind = str(payload.get("type") or "")
    if kind:
        return str(payload["delta"]) if kind in DELTAS else ""
    if payload.get("output") is not None:
        return "".join(_item(item) for item in payload["output"])
    return "".join(
        _message(choice.get("message") or choice.get("delta") or {})
        for choice in payload.get("choices") or ()
    )


def _item(item: Mapping[str, Any]) -> str:
    parts = item.get("content") or ()
    said = "".join((part.get("text") or "") + (part.get("refusal") or "") for part in parts)
    return said + str(item.get("arguments") or "")


def _message(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or ()
    arguments = "".join((call.get("function") or {}).get("arguments") or "" for call in calls)
    return (message.get("content") or "") + (message.get("refusal") or "") + arguments


def text_in(events: Iterable[bytes]) -> str:
    """The text that server-sent events carry."""
    seen = Sighting()
    for event in events:
        for line in event.decode().splitlines():
            seen.see_line(line)
    return seen.text

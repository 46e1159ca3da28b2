"""One wire shape: how a response, an item of a stream and a server-sent event of it are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ..vocabulary import Api, Chunk, Completion
from . import chat, messages, responses

DONE: Final = "[DONE]"


@dataclass(frozen=True, slots=True)
class Shape:
    """The readers of one API. None of them raises, whatever it is given.

    ``read_completion(payload, native)`` reads a response's JSON, ``read_chunk(payload, native)``
    one item of a stream; ``native`` is carried along untouched. What cannot be read gives a
    ``Completion`` without choices, or an ``opaque`` chunk.
    """

    api: Api
    read_completion: Callable[[object, Any], Completion]
    read_chunk: Callable[[object, Any], Chunk]

    def read_body(self, body: str | bytes, native: Any = None) -> Completion:
        """A response's body, not yet parsed."""
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return Completion((), native)
        return self.read_completion(payload, native)

    def read_event(self, event: str | None, data: str, native: Any = None) -> Chunk:
        """One server-sent event, as ``SSEReader`` gives it."""
        if data.strip() == DONE:
            return Chunk(native, done=True)
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError):
            return Chunk(native, opaque=True)
        if event == "error":
            return Chunk(native, opaque=True)
        return self.read_chunk(payload, native)

    def read_events(self, events: Iterable[tuple[str | None, str]], native: Any = None) -> Chunk:
        """The events of one part of a stream as one chunk, as far as they can be read."""
        said: list[Chunk] = []
        for event, data in events:
            said.append(self.read_event(event, data))
            if said[-1].opaque:
                break
        return Chunk(
            native=native,
            deltas=tuple(delta for chunk in said for delta in chunk.deltas),
            model=next((chunk.model for chunk in said if chunk.model), None),
            usage=next((chunk.usage for chunk in reversed(said) if chunk.usage), None),
            opaque=any(chunk.opaque for chunk in said),
            done=any(chunk.done for chunk in said),
        )


_SHAPES: dict[Api, Shape] = {
    "chat": Shape("chat", chat.read_completion, chat.read_chunk),
    "responses": Shape("responses", responses.read_completion, responses.read_chunk),
    "messages": Shape("messages", messages.read_completion, messages.read_chunk),
}


def shape_for(api: Api) -> Shape:
    return _SHAPES[api]

"""The endpoints demur understands: which wire shape each speaks, and who streams it.

LiteLLM hands hooks its own types: ``ModelResponse`` and ``ResponsesAPIResponse`` objects, Anthropic
messages as dictionaries, streams as chunk objects, typed events or bytes of server-sent events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import time
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel

from ...vocabulary import Api, Chunk, Completion, Usage
from ...wire import SSEReader, shape_for
from .reasons import unfolded


@dataclass(frozen=True, slots=True)
class Surface:
    """One endpoint. ``router_call`` is the public Router method that serves its streams."""

    api: Api
    router_call: str


CHAT = Surface("chat", "acompletion")
_MESSAGES = Surface("messages", "aanthropic_messages")
_RESPONSES = Surface("responses", "aresponses")
_OPENING = ("response.created", "response.in_progress")
_BY_CALL_TYPE = {
    "acompletion": CHAT,
    "anthropic_messages": _MESSAGES,
    "aresponses": _RESPONSES,
}


def surface_for(call_type: object) -> Surface | None:
    """The surface of a LiteLLM call type; ``None`` where demur has nothing to judge."""
    return _BY_CALL_TYPE.get(str(getattr(call_type, "value", call_type)))


def read_completion(surface: Surface, native: Any, logging_obj: Any = None) -> Completion:
    """A whole response. For ``/v1/messages`` LiteLLM may hold an OpenAI model's own object.

    ``logging_obj`` is LiteLLM's, which still has what the provider sent.
    """
    payload = _payload(native)
    if payload is not None:
        payload = unfolded(payload, logging_obj)
    return shape_for(_spoken(payload) or surface.api).read_completion(payload, native)


def in_shape_of(template: Any, completion: Completion) -> Any:
    """A kept response in the shape of the one it takes the place of.

    Only where LiteLLM was to translate the response after the hook do they differ: the text then
    goes into ``template``. A refused response is text only.
    """
    kept, own = _payload(completion.native), _payload(template)
    shape = _spoken(own)
    if kept is None or own is None or shape in (None, _spoken(kept)):
        return completion.native
    told = {"id": kept.get("id") or own.get("id"), "model": completion.model}
    shaped = {**own, **told, **_SHAPES[shape](completion)}
    return shaped if isinstance(template, Mapping) else type(template)(**shaped)


def _as_chat(completion: Completion) -> dict[str, Any]:
    text, filtered, usage = _said(completion)
    return {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "content_filter" if filtered else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
    }


def _as_message(completion: Completion) -> dict[str, Any]:
    text, filtered, usage = _said(completion)
    return {
        "content": [{"type": "text", "text": text}],
        **({"stop_reason": "refusal"} if filtered else {}),
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }


def _as_response(completion: Completion) -> dict[str, Any]:
    text, filtered, usage = _said(completion)
    status = "incomplete" if filtered else "completed"
    return {
        "created_at": int(time()),
        "status": status,
        "incomplete_details": {"reason": "content_filter"} if filtered else None,
        "output": [
            {
                "type": "message",
                "id": f"msg_{uuid4().hex}",
                "role": "assistant",
                "status": status,
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }
        ],
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
    }


def _said(completion: Completion) -> tuple[str, bool, Usage]:
    evidence = completion.choices[0]
    refuses = any(signal.refuses for signal in evidence.signals)
    return evidence.text or evidence.refusal, refuses, completion.usage or Usage()


_SHAPES: Final[Mapping[Api, Callable[[Completion], dict[str, Any]]]] = {
    "chat": _as_chat,
    "messages": _as_message,
    "responses": _as_response,
}


def opening(items: Iterable[Any]) -> Iterator[Any]:
    """Of a Responses stream's first events those that have to come before an error's. They say
    nothing yet; on other surfaces an error may come first."""
    for item in items:
        kind = getattr(item, "type", None)
        if str(getattr(kind, "value", kind)) in _OPENING:
            yield item


class ItemReader:
    """Reads the items of one stream."""

    def __init__(self, surface: Surface) -> None:
        self._shape = shape_for(surface.api)
        self._events = SSEReader()

    def read(self, item: Any) -> Chunk:
        if isinstance(item, str):
            item_bytes = item.encode()
        elif isinstance(item, bytes):
            item_bytes = item
        else:
            return self._shape.read_chunk(_payload(item), item)
        return self._shape.read_events(self._events.feed(item_bytes), item)


def _payload(native: Any) -> Mapping[str, Any] | None:
    if isinstance(native, Mapping):
        return native
    # LiteLLM puts values into fields that their declared types do not allow.
    return native.model_dump(warnings=False) if isinstance(native, BaseModel) else None


def _spoken(payload: Mapping[str, Any] | None) -> Api | None:
    """The API whose response this is, by what it says of itself."""
    if payload is None:
        return None
    if payload.get("object") == "response":
        return "responses"
    if payload.get("object") == "chat.completion":
        return "chat"
    return "messages" if payload.get("type") == "message" else None

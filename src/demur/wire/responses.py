"""OpenAI Responses: one choice, made of output items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..detection.signals import ending
from ..vocabulary import Chunk, Completion, Delta, Evidence, Signal, Usage
from .content import Content, joined, read_content
from .fields import mapping, name, sequence, string
from .fields import usage as tokens

_DONE = frozenset({"completed", "incomplete"})
_RUNNING = frozenset({"queued", "in_progress"})
_HOSTED = frozenset(
    {
        "reasoning",
        "compaction",
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_call",
        "mcp_list_tools",
        "tool_search_output",
        "shell_call_output",
        "program",
        "program_output",
        "additional_tools",
        "multi_agent_call",
        "multi_agent_call_output",
        "agent_message",
        "mcp_tools_fetched",
        "tool_execution_results",
    }
)
"""Items the provider works off itself, or LiteLLM for it. The text with them is still the answer,
and is judged; every other item that is no message (``function_call``, ``computer_call``, an image)
delivers."""

_DELTAS: Mapping[str, Callable[[str], Delta]] = {
    "response.output_text.delta": lambda text: Delta(text=text),
    "response.refusal.delta": lambda text: Delta(refusal=text),
    "response.reasoning_text.delta": lambda text: Delta(reasoning=True),
    "response.reasoning_summary_text.delta": lambda text: Delta(reasoning=True),
    "response.function_call_arguments.delta": lambda text: Delta(non_text=True),
    "response.custom_tool_call_input.delta": lambda text: Delta(non_text=True),
    "response.audio.delta": lambda text: Delta(non_text=True),
    "response.audio.transcript.delta": lambda text: Delta(non_text=True),
    "response.image_generation_call.partial_image": lambda text: Delta(non_text=True),
}


def read_completion(payload: object, native: Any = None) -> Completion:
    """A whole response; without choices where it failed, still runs or cannot be read."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Completion((), native)
    output = payload.get("output")
    model, usage = name(payload.get("model")), _usage(payload)
    status = string(payload.get("status") or "completed")
    if not isinstance(output, list | tuple) or status not in _DONE:
        return Completion((), native, model, usage, running=status in _RUNNING)
    content = _output(output)
    evidence = Evidence(content.text, content.refusal, _signals(payload), content.non_text)
    return Completion((evidence,), native, model, usage)


def read_chunk(payload: object, native: Any = None) -> Chunk:
    """One event. Text comes from the deltas; the last event says it all again."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Chunk(native, opaque=True)
    kind = string(payload.get("type"))
    if kind in ("error", "response.failed", "response.cancelled"):
        return Chunk(native, opaque=True)
    if kind in ("response.completed", "response.incomplete"):
        return _last(mapping(payload.get("response")), native)
    if kind == "response.output_item.added":
        delta = _added(payload.get("item"))
    elif kind in _DELTAS:
        delta = _DELTAS[kind](string(payload.get("delta")))
    else:
        delta = None
    model = name(mapping(payload.get("response")).get("model"))
    return Chunk(native, () if delta is None else (delta,), model)


def _last(response: Mapping[str, Any], native: Any) -> Chunk:
    content = _output(sequence(response.get("output")))
    whole = Evidence(content.text, content.refusal)
    end = Delta(
        signals=_signals(response),
        non_text=content.non_text,
        finished=True,
        whole=None if whole == Evidence() else whole,
    )
    return Chunk(native, (end,), name(response.get("model")), _usage(response))


def _output(items: Sequence[Any]) -> Content:
    content = joined(_item(item) for item in items)
    kinds = {string(mapping(item).get("type")) for item in items}
    if "compaction" in kinds and "message" not in kinds:
        # A request that ends in a `compaction_trigger` asks for that alone.
        return replace(content, non_text=True)
    return content


def _added(item: object) -> Delta | None:
    """An item that begins; a message's text follows in deltas."""
    content = _item(item)
    if content.non_text:
        return Delta(non_text=True)
    return Delta(reasoning=True) if content.reasoning else None


def _item(item: object) -> Content:
    kind = string(mapping(item).get("type"))
    if kind == "message":
        return read_content(mapping(item).get("content"))
    if _is_hosted(kind, mapping(item)):
        return Content(reasoning=True)
    return Content(non_text=bool(kind))


def _is_hosted(kind: str, item: Mapping[str, Any]) -> bool:
    if kind == "tool_search_call":
        return item.get("execution") != "client"
    if kind == "shell_call":
        return mapping(item.get("environment")).get("type") == "container_reference"
    return kind in _HOSTED


def _signals(response: Mapping[str, Any]) -> tuple[Signal, ...]:
    return ending(
        "incomplete_details.reason", mapping(response.get("incomplete_details")).get("reason")
    )


def _usage(response: Mapping[str, Any]) -> Usage | None:
    return tokens(response.get("usage"), read=("input_tokens",), written=("output_tokens",))

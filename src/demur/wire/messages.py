"""Anthropic Messages: one choice, made of content blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..detection.signals import anthropic_stop
from ..vocabulary import Chunk, Completion, Delta, Evidence, Usage
from .content import Content, joined, read_part
from .fields import mapping, name, string
from .fields import usage as tokens

_HOSTED = ("server_tool_use", "mcp_tool_use", "mcp_tool_result")
"""Blocks of tools that the provider runs itself, beside all ``…_tool_result``: the text after them
is still the answer, and is judged."""


def read_completion(payload: object, native: Any = None) -> Completion:
    """A whole message; without choices where it is an error or cannot be read."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Completion((), native)
    blocks = payload.get("content")
    model, usage = name(payload.get("model")), _usage(payload)
    if isinstance(blocks, str):
        blocks = (blocks,)
    if not isinstance(blocks, list | tuple):
        return Completion((), native, model, usage)
    content = joined(_block(block) for block in blocks)
    evidence = Evidence(content.text, content.refusal, anthropic_stop(payload), content.non_text)
    return Completion((evidence,), native, model, usage)


def read_chunk(payload: object, native: Any = None) -> Chunk:
    """One event. The tokens of ``message_start`` and ``message_delta`` are cumulative: where both
    name a count, the greater is the total."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Chunk(native, opaque=True)
    kind = string(payload.get("type"))
    if kind == "message_start":
        message = mapping(payload.get("message"))
        return Chunk(native, (), name(message.get("model")), _usage(message))
    if kind == "content_block_start":
        return _chunk(native, _block(payload.get("content_block")))
    if kind == "content_block_delta":
        return _chunk(native, _delta(mapping(payload.get("delta"))))
    if kind == "message_delta":
        delta = mapping(payload.get("delta"))
        end = Delta(signals=anthropic_stop(delta), finished=bool(delta.get("stop_reason")))
        return Chunk(native, (end,), usage=_usage(payload))
    return Chunk(native, opaque=kind == "error")


def _chunk(native: Any, content: Content) -> Chunk:
    if content == Content():
        return Chunk(native)
    delta = Delta(
        text=content.text,
        refusal=content.refusal,
        non_text=content.non_text,
        reasoning=content.reasoning,
    )
    return Chunk(native, (delta,))


def _block(block: object) -> Content:
    kind = string(mapping(block).get("type"))
    if kind in _HOSTED or kind.endswith("_tool_result"):
        return Content(reasoning=True)
    return read_part(block)


def _delta(delta: Mapping[str, Any]) -> Content:
    """What a block grows by. A tool's input says nothing new: its block's start already did."""
    kind = string(delta.get("type"))
    if kind == "text_delta":
        return Content(text=string(delta.get("text")))
    return Content(reasoning=kind in ("thinking_delta", "signature_delta"))


def _usage(payload: Mapping[str, Any]) -> Usage | None:
    return tokens(
        payload.get("usage"),
        read=("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
        written=("output_tokens",),
    )

"""Anthropic Messages, whole and as typed server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .reply import Exchange

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def body(exchange: Exchange) -> dict[str, Any]:
    usage = exchange.usage
    return {
        "id": f"msg_{exchange.number}",
        "type": "message",
        "role": "assistant",
        "model": exchange.model,
        "content": _blocks(exchange),
        "stop_sequence": None,
        **_stop(exchange),
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }


def error(status: int, message: str) -> dict[str, Any]:
    kind = "api_error" if status >= 500 else "invalid_request_error"
    return {"type": "error", "error": {"type": kind, "message": message}}


def events(exchange: Exchange) -> Iterator[bytes]:
    for event in _events(exchange):
        payload = json.dumps(event, ensure_ascii=False)
        yield f"event: {event['type']}\ndata: {payload}\n\n".encode()


def _events(exchange: Exchange) -> Iterator[dict[str, Any]]:
    usage = exchange.usage
    opened = {
        **body(exchange),
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": 0},
    }
    opened.pop("stop_details", None)
    yield {"type": "message_start", "message": opened}
    yield {"type": "ping"}
    for index, block in enumerate(_blocks(exchange)):
        empty, deltas = _block_stream(exchange, block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_sequence": None, **_stop(exchange)},
        "usage": {"output_tokens": usage.output_tokens},
    }
    if not exchange.reply.omit_done:
        yield {"type": "message_stop"}


def _block_stream(
    exchange: Exchange, block: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as it opens, and the deltas that fill it."""
    reply = exchange.reply
    if block["type"] == "tool_use":
        pieces = reply.pieces(json.dumps(block["input"]))
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return {**block, "input": {}}, deltas
    if block["type"] == "thinking":
        pieces = reply.pieces(block["thinking"])
        return {**block, "thinking": ""}, [
            {"type": "thinking_delta", "thinking": piece} for piece in pieces
        ]
    scripted = block["text"] == exchange.texts[0]
    pieces = reply.text_pieces(block["text"]) if scripted else reply.pieces(block["text"])
    return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


def _blocks(exchange: Exchange) -> list[dict[str, Any]]:
    reply = exchange.reply
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": ""})
    blocks.extend(
        {"type": "text", "text": text} for text in (exchange.texts[0], reply.refusal) if text
    )
    for i, call in enumerate(reply.tool_calls):
        blocks.append(
            {
                "type": "tool_use",
                "id": f"toolu_{exchange.number}_{i}",
                "name": call.name,
                "input": json.loads(call.arguments),
            }
        )
    return blocks


def _stop(exchange: Exchange) -> dict[str, Any]:
    reply = exchange.reply
    reason = _STOP_REASONS.get(exchange.finish_reason, exchange.finish_reason)
    stop: dict[str, Any] = {"stop_reason": "refusal" if reply.refusal else reason}
    if reply.stop_details is not None:
        stop["stop_details"] = dict(reply.stop_details)
    return stop

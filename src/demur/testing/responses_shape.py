"""OpenAI Responses, whole and as typed server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from .reply import Exchange

_INCOMPLETE = {"content_filter": "content_filter", "length": "max_output_tokens"}


def body(exchange: Exchange) -> dict[str, Any]:
    reason = _INCOMPLETE.get(exchange.finish_reason)
    usage = exchange.usage
    return {
        **_head(exchange, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output(exchange),
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.total_tokens,
        },
    }


def events(exchange: Exchange) -> Iterator[bytes]:
    for number, event in enumerate(_events(exchange)):
        payload = json.dumps({**event, "sequence_number": number}, ensure_ascii=False)
        yield f"event: {event['type']}\ndata: {payload}\n\n".encode()


def _events(exchange: Exchange) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": _head(exchange, "in_progress")}
    yield {"type": "response.in_progress", "response": _head(exchange, "in_progress")}
    for index, item in enumerate(_output(exchange)):
        opened = {**item, "status": "in_progress"}
        for emptied in ("content", "summary"):
            if emptied in opened:
                opened[emptied] = []
        if "arguments" in opened:
            opened["arguments"] = ""
        where = {"output_index": index}
        yield {"type": "response.output_item.added", **where, "item": opened}
        yield from _item_events(exchange, item, {**where, "item_id": item["id"]})
        yield {"type": "response.output_item.done", **where, "item": item}
    if not exchange.reply.omit_done:
        whole = body(exchange)
        yield {"type": f"response.{whole['status']}", "response": whole}


def _item_events(
    exchange: Exchange, item: dict[str, Any], where: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    reply = exchange.reply
    if item["type"] == "function_call":
        arguments = item["arguments"]
        for piece in reply.pieces(arguments):
            yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
        done = {"name": item["name"], "arguments": arguments}
        yield {"type": "response.function_call_arguments.done", **where, **done}
    elif item["type"] == "reasoning":
        for piece in reply.pieces(reply.reasoning):
            delta = {"summary_index": 0, "delta": piece}
            yield {"type": "response.reasoning_summary_text.delta", **where, **delta}
    else:
        for index, part in enumerate(item["content"]):
            yield from _part_events(exchange, part, {**where, "content_index": index})


def _part_events(
    exchange: Exchange, part: dict[str, Any], where: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    reply = exchange.reply
    field = "refusal" if part["type"] == "refusal" else "text"
    name = "response.refusal" if field == "refusal" else "response.output_text"
    extra: dict[str, Any] = {} if field == "refusal" else {"logprobs": []}
    pieces = reply.pieces(part[field]) if field == "refusal" else reply.text_pieces(part[field])
    yield {"type": "response.content_part.added", **where, "part": {**part, field: ""}}
    for piece in pieces:
        yield {"type": f"{name}.delta", **where, **extra, "delta": piece}
    yield {"type": f"{name}.done", **where, **extra, field: part[field]}
    yield {"type": "response.content_part.done", **where, "part": part}


def _output(exchange: Exchange) -> list[dict[str, Any]]:
    reply, number = exchange.reply, exchange.number
    status = "incomplete" if exchange.finish_reason in _INCOMPLETE else "completed"
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary})
    parts: list[dict[str, Any]] = []
    if exchange.texts[0] or not (reply.refusal or reply.tool_calls):
        text = exchange.texts[0]
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if reply.refusal:
        parts.append({"type": "refusal", "refusal": reply.refusal})
    if parts:
        items.append(
            {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": parts,
            }
        )
    for i, call in enumerate(reply.tool_calls):
        items.append(
            {
                "id": f"fc_{number}_{i}",
                "type": "function_call",
                "call_id": f"call_{number}_{i}",
                "name": call.name,
                "arguments": call.arguments,
                "status": "completed",
            }
        )
    return items


def _head(exchange: Exchange, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{exchange.number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": exchange.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }

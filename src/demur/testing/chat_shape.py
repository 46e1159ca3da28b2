"""OpenAI chat completions, whole and as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from .reply import Exchange


def body(exchange: Exchange) -> dict[str, Any]:
    return {
        **_head(exchange, "chat.completion"),
        "choices": [_choice(exchange, i, text) for i, text in enumerate(exchange.texts)],
        "usage": _usage(exchange),
    }


def error(status: int, message: str) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def events(exchange: Exchange) -> Iterator[bytes]:
    """A role-only chunk a choice, its pieces (choices take turns), finish, usage, ``[DONE]``."""
    with_usage = exchange.reply.include_usage
    if with_usage is None:
        with_usage = bool((exchange.request.get("stream_options") or {}).get("include_usage"))
    head = {**_head(exchange, "chat.completion.chunk"), **({"usage": None} if with_usage else {})}
    streams = [_deltas(exchange, text) for text in exchange.texts]
    for turn in zip_longest(*streams):
        for index, step in enumerate(turn):
            if step is not None:
                delta, finish = step
                choice = {
                    "index": index, "delta": delta, "logprobs": None, "finish_reason": finish,
                }  # fmt: skip
                yield _data({**head, "choices": [choice]})
    if with_usage:
        yield _data({**head, "choices": [], "usage": _usage(exchange)})
    if not exchange.reply.omit_done:
        yield b"data: [DONE]\n\n"


def _deltas(exchange: Exchange, text: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    reply = exchange.reply
    yield {"role": "assistant", "content": "", "refusal": None}, None
    for piece in reply.pieces(reply.reasoning):
        yield {"reasoning_content": piece}, None
    for piece in reply.text_pieces(text):
        yield {"content": piece}, None
    for piece in reply.pieces(reply.refusal or ""):
        yield {"refusal": piece}, None
    for index, call in enumerate(_tool_calls(exchange)):
        arguments = call["function"]["arguments"]
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        yield {"tool_calls": [opening]}, None
        for piece in reply.pieces(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    yield {}, exchange.finish_reason


def _choice(exchange: Exchange, index: int, text: str) -> dict[str, Any]:
    reply = exchange.reply
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if not text and (reply.refusal or reply.tool_calls) else text,
        "refusal": reply.refusal,
    }
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(exchange)
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": exchange.finish_reason,
    }


def _tool_calls(exchange: Exchange) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{exchange.number}_{i}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for i, call in enumerate(exchange.reply.tool_calls)
    ]


def _head(exchange: Exchange, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{exchange.number}",
        "object": kind,
        "created": int(time.time()),
        "model": exchange.model,
    }


def _usage(exchange: Exchange) -> dict[str, int]:
    usage = exchange.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _data(payload: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()

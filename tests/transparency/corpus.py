"""Shapes of real responses, written for this project after the providers' published formats.

Each is what a server sends, byte for byte: a body, or the pieces of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ANSWER = "Use a sharp knife - café style: cut “against” the grain, then rest it. ☕ 很好。"
PIECES = ("", "Use a", " sharp knife - ca", "fé style: cut “against”", " the grain. ☕ 很好。")
USAGE = {"prompt_tokens": 12, "completion_tokens": 21, "total_tokens": 33}


@dataclass(frozen=True)
class Shape:
    """``request`` are the fields that ask for such a response. ``refused``: it is a refusal, which
    a policy that retries would act on.
    """

    name: str
    body: bytes | tuple[bytes, ...]
    api: str = "chat"
    request: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    refused: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> bool:
        return isinstance(self.body, tuple)

    @property
    def parts(self) -> tuple[bytes, ...]:
        return self.body if isinstance(self.body, tuple) else (self.body,)


def dumps(payload: Any) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode()


def whole(*messages: Mapping[str, Any], finish: str = "stop", **extra: Any) -> bytes:
    choices = [
        {"index": i, "message": {"role": "assistant", **m}, "finish_reason": finish}
        for i, m in enumerate(messages)
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1"}
    return dumps({**head, "choices": choices, "usage": USAGE, **extra})


def choice(delta: Mapping[str, Any], finish: str | None = None, **extra: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **extra}


def event(*choices: Mapping[str, Any], **extra: Any) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    return b"data: " + dumps({**head, "choices": list(choices), **extra}) + b"\n\n"


def said(*texts: str, **extra: Any) -> list[bytes]:
    return [event(choice({"content": text}, **extra)) for text in texts]


DONE = b"data: [DONE]\n\n"
ROLE = event(choice({"role": "assistant", "content": "", "refusal": None}))
STOP = event(choice({}, "stop"))


def streamed(*parts: Sequence[bytes] | bytes) -> tuple[bytes, ...]:
    flat: list[bytes] = []
    for part in parts:
        flat += [part] if isinstance(part, bytes) else part
    return tuple(flat)


def tool(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{index}", "type": "function", "function": function}


def tool_delta(index: int, arguments: str, **opening: Any) -> bytes:
    function = {"arguments": arguments, **({"name": opening.pop("name")} if opening else {})}
    call = {"index": index, **opening, "function": function}
    return event(choice({"tool_calls": [call]}))


LOGPROBS = {
    "content": [
        {
            "token": "Use",
            "logprob": -0.01,
            "bytes": [85, 115, 101],
            "top_logprobs": [{"token": "Cut", "logprob": -4.6, "bytes": [67]}],
        }
    ],
    "refusal": None,
}
SAFE = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
PROMPT_FILTER = [{"prompt_index": 0, "content_filter_results": SAFE}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "steps", "strict": True, "schema": {"type": "object"}},
}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
AUDIO = {"id": "audio_1", "data": "UklGRg==", "expires_at": 9, "transcript": "Use a sharp knife"}
ERROR = {"error": {"message": "The server is overloaded", "type": "server_error", "code": None}}
ITEM = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}],
}
REASONED = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "look",
    "arguments": "{}",
    "status": "completed",
}


def response(*output: Mapping[str, Any], status: str = "completed", **extra: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m-1",
        "status": status,
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "metadata": {},
        **extra,
    }


def typed(*events: Mapping[str, Any]) -> tuple[bytes, ...]:
    return tuple(
        f"event: {e['type']}\n".encode() + b"data: " + dumps({**e, "sequence_number": n}) + b"\n\n"
        for n, e in enumerate(events)
    )


RESPONSE_EVENTS = (
    {"type": "response.created", "response": response(status="in_progress")},
    {"type": "response.output_item.added", "output_index": 0, "item": {**REASONED}},
    {"type": "response.output_item.done", "output_index": 0, "item": {**REASONED}},
    {"type": "response.output_item.added", "output_index": 1, "item": {**ITEM, "content": []}},
    *(
        {
            "type": "response.output_text.delta",
            "item_id": "msg_1",
            "output_index": 1,
            "content_index": 0,
            "delta": piece,
            "logprobs": [],
        }
        for piece in PIECES
    ),
    {"type": "response.output_item.done", "output_index": 1, "item": ITEM},
    {"type": "response.completed", "response": response(REASONED, ITEM)},
)
PLAIN_STREAM = streamed(ROLE, said(*PIECES), STOP, DONE)
SURROGATE = json.dumps({"v": "\ud83d\ude00 é"}).encode()

CORPUS = (
    Shape("plain", whole({"content": ANSWER, "refusal": None})),
    Shape("spaced", json.dumps(json.loads(whole({"content": ANSWER})), indent=1).encode()),
    Shape("n-2", whole({"content": ANSWER}, {"content": "Or dice it."}), request={"n": 2}),
    Shape("tool", whole({"content": None, "tool_calls": [tool(1, "look", '{"a":1}')]},
                        finish="tool_calls"), request={"tools": TOOLS}),
    Shape("parallel-tools", whole({"content": "Let me look.", "tool_calls": [
        tool(1, "look", "{}"), tool(2, "look", '{"b": "é"}')]}, finish="tool_calls"),
        request={"tools": TOOLS}),
    Shape("json-mode", whole({"content": '{"steps": ["cut", "rest"]}'}),
          request={"response_format": {"type": "json_object"}}),
    Shape("json-schema", whole({"content": '{"steps": []}'}), request={"response_format": SCHEMA}),
    Shape("length", whole({"content": "Use a sharp"}, finish="length"), request={"max_tokens": 3}),
    Shape("logprobs", whole({"content": "Use"}, choices=[
        {"index": 0, "finish_reason": "stop", "logprobs": LOGPROBS,
         "message": {"role": "assistant", "content": "Use"}}]), request={"logprobs": True}),
    Shape("audio", whole({"content": None, "audio": AUDIO}),
          request={"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
    Shape("annotations", whole({"content": ANSWER, "annotations": [{"type": "url_citation",
          "url_citation": {"url": "http://x", "title": "t", "start_index": 0, "end_index": 3}}]})),
    Shape("usage-details", whole({"content": ANSWER}, usage={**USAGE,
          "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
          "completion_tokens_details": {"reasoning_tokens": 7}}, system_fingerprint="fp_1",
          service_tier="default")),
    Shape("reasoning", whole({"content": ANSWER, "reasoning_content": "I cannot but think."})),
    Shape("think-tags", whole({"content": f"<think>I'm sorry, no?</think>{ANSWER}"})),
    Shape("unknown-fields", whole({"content": ANSWER, "x_new": {"deep": [1, None, 2.50]}},
          x_top=[{"a": "b"}], provider="p", big=12345678901234567890, tiny=1e-07)),
    Shape("escapes", whole({"content": ANSWER}).replace(b'"created": 1', b'"created":1,"x":'
          + SURROGATE)),
    Shape("azure", whole({"content": ANSWER}, prompt_filter_results=PROMPT_FILTER, choices=[
        {"index": 0, "finish_reason": "stop", "content_filter_results": SAFE,
         "message": {"role": "assistant", "content": ANSWER}}])),
    Shape("azure-filtered", whole({"content": ""}, finish="content_filter", choices=[
        {"index": 0, "finish_reason": "content_filter", "content_filter_results": {
            **SAFE, "violence": {"filtered": True, "severity": "high"}},
         "message": {"role": "assistant", "content": ""}}]), refused=True),
    Shape("refusal", whole({"content": None, "refusal": "I can't help with that."}), refused=True),
    Shape("no-choices", whole()),
    Shape("error-status", dumps(ERROR), status=503),
    Shape("error-in-200", dumps(ERROR)),
    Shape("not-json", b"<html>gateway</html>", headers={"content-type": "text/html"}),
    Shape("broken-json", whole({"content": ANSWER})[:-20]),
    Shape("empty-body", b""),
    Shape("stream", PLAIN_STREAM),
    Shape("stream-crlf", tuple(part.replace(b"\n", b"\r\n") for part in PLAIN_STREAM)),
    Shape("stream-one-piece", (b"".join(PLAIN_STREAM),)),
    Shape("stream-bytewise", tuple(bytes([b]) for b in b"".join(PLAIN_STREAM))),
    Shape("stream-comments", streamed(b": keep-alive\n\n", ROLE, b": ping\n\n", said(*PIECES),
          b"id: 7\nretry: 10\n" + STOP, DONE)),
    Shape("stream-usage", streamed(ROLE, said(*PIECES), STOP, event(usage=USAGE), DONE),
          request={"stream_options": {"include_usage": True}}),
    Shape("stream-n-2", streamed(event(choice({"role": "assistant"}), {**choice(
          {"role": "assistant"}), "index": 1}), said("Use "), event({**choice({"content": "Or"}),
          "index": 1}), said("a knife"), event(choice({}, "stop")), event(
          {**choice({}, "stop"), "index": 1}), DONE), request={"n": 2}),
    Shape("stream-tools", streamed(ROLE, tool_delta(0, "", id="call_1", name="look",
          type="function"), tool_delta(0, '{"a"'), tool_delta(0, ":1}"), tool_delta(1, "{}",
          id="call_2", name="look", type="function"), event(choice({}, "tool_calls")), DONE),
          request={"tools": TOOLS}),
    Shape("stream-text-then-tool", streamed(ROLE, said("I'm s", "o glad, let me look."),
          tool_delta(0, "{}", id="call_1", name="look", type="function"),
          event(choice({}, "tool_calls")), DONE), request={"tools": TOOLS}),
    Shape("stream-logprobs", streamed(ROLE, said("Use", logprobs=LOGPROBS), STOP, DONE),
          request={"logprobs": True}),
    Shape("stream-reasoning", streamed(ROLE, event(choice({"reasoning_content": "I can't say"})),
          event(choice({"reasoning_content": " yet."})), said(*PIECES), STOP, DONE)),
    Shape("stream-think", streamed(ROLE, said("<th", "ink>I'm sorry", "</thi", "nk>Use a knife."),
          STOP, DONE)),
    Shape("stream-empty-deltas", streamed(event(choice({})), ROLE, said("", "", "Use", "", " it."),
          event(choice({"content": None})), STOP, DONE)),
    Shape("stream-azure", streamed(event(prompt_filter_results=PROMPT_FILTER), ROLE, said(
          *PIECES, content_filter_results=SAFE), STOP, DONE)),
    Shape("stream-audio", streamed(ROLE, event(choice({"audio": {"id": "a", "data": "UklG"}})),
          event(choice({"audio": {"transcript": "Use"}})), STOP, DONE)),
    Shape("stream-unknown", streamed(ROLE, event(choice({"content": "Use", "x": [1.50]}, y=None),
          z={"a": "é"}), STOP, DONE)),
    Shape("stream-no-done", streamed(ROLE, said(*PIECES), STOP)),
    Shape("stream-half", streamed(ROLE, said(*PIECES), STOP[:40])),
    Shape("stream-error-first", streamed(b"data: " + dumps(ERROR) + b"\n\n")),
    Shape("stream-error-later", streamed(ROLE, said(*PIECES), b"data: " + dumps(ERROR) + b"\n\n")),
    Shape("stream-broken-event", streamed(ROLE, said("Use"), b"data: {oops\n\n", STOP, DONE)),
    Shape("stream-nothing", ()),
    Shape("stream-refusal", streamed(ROLE, event(choice({"refusal": "I can't help with that."})),
          STOP, DONE), refused=True),
    Shape("stream-error-status", (dumps(ERROR),), status=429),
    Shape("response", dumps(response(REASONED, ITEM)), "responses"),
    Shape("response-tool", dumps(response(REASONED, CALL)), "responses"),
    Shape("response-queued", dumps(response(status="queued")), "responses"),
    Shape("response-incomplete", dumps(response(ITEM, status="incomplete",
          incomplete_details={"reason": "max_output_tokens"})), "responses"),
    Shape("response-unknown", dumps(response(ITEM, {"id": "x", "type": "new_kind", "v": 1},
          x_new=1)), "responses"),
    Shape("response-stream", typed(*RESPONSE_EVENTS), "responses"),
    Shape("response-stream-unknown", typed({"type": "response.brand_new", "x": 1},
          *RESPONSE_EVENTS), "responses"),
    Shape("response-stream-failed", typed(*RESPONSE_EVENTS[:6], {"type": "response.failed",
          "response": response(status="failed", error={"code": "server_error", "message": "x"})}),
          "responses"),
)  # fmt: skip

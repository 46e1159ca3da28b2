"""The loopback upstream, spoken to with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from demur.testing import Reply, ToolCall, Upstream
from demur.vocabulary import Usage

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def post(upstream: Upstream, path: str, **body: Any) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(upstream.origin).netloc, timeout=10)
    try:
        connection.request("POST", path, json.dumps({"model": "m", **body}).encode())
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def events(raw: bytes) -> list[Any]:
    """The data of every event; ``[DONE]`` as it is."""
    data = [line[len("data: ") :] for line in raw.decode().split("\n") if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def open_stream(upstream: Upstream, path: str = CHAT, **body: Any) -> socket.socket:
    payload = json.dumps({"model": "m", "stream": True, **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(payload)}\r\n\r\n"
    raw = socket.create_connection(("127.0.0.1", urlsplit(upstream.origin).port or 0), timeout=10)
    raw.sendall(head.encode() + payload)
    return raw


def read_until(raw: socket.socket, marker: bytes) -> bytes:
    seen = b""
    while marker not in seen:
        piece = raw.recv(65536)
        assert piece, seen
        seen += piece
    return seen


def test_chat_answers_whole() -> None:
    """A chat completion carries text, usage, finish reason and the model asked for."""
    with Upstream({"m": Reply("Sure thing.", usage=Usage(3, 2))}) as upstream:
        status, headers, raw = post(upstream, CHAT, messages=[])
    body = json.loads(raw)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "req_1"
    assert body["object"] == "chat.completion"
    assert body["model"] == "m"
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Sure thing.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_chat_streams_role_pieces_finish_and_done() -> None:
    """A stream is a role-only chunk, the pieces as cut, a finish chunk and ``[DONE]``."""
    with Upstream({"m": Reply(chunks=("I'm ", "sorry", "."))}) as upstream:
        _, headers, raw = post(upstream, CHAT, stream=True)
    *chunks, done = events(raw)
    assert headers["content-type"] == "text/event-stream"
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert [delta.get("content") for delta in deltas[1:]] == ["I'm ", "sorry", ".", None]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes == [None, None, None, None, "stop"]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert all("usage" not in chunk for chunk in chunks)


def test_chat_stream_cuts_by_chunk_size() -> None:
    """Without explicit chunks the text is cut every ``chunk_size`` characters, not bytes."""
    with Upstream({"m": Reply("naïve café", chunk_size=4)}) as upstream:
        raw = post(upstream, CHAT, stream=True)[2]
    contents = [e["choices"][0]["delta"].get("content") for e in events(raw)[1:-2]]
    assert contents == ["naïv", "e ca", "fé"]


def test_usage_chunk_honours_stream_options() -> None:
    """``include_usage`` adds a last chunk without choices, unless the reply overrides it."""
    options = {"include_usage": True}
    script = {"m": Reply("Hi", usage=Usage(1, 1)), "never": Reply("Hi", include_usage=False)}
    with Upstream(script) as upstream:
        asked = events(post(upstream, CHAT, stream=True, stream_options=options)[2])
        never = events(post(upstream, CHAT, model="never", stream=True, stream_options=options)[2])
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["total_tokens"] == 2
    assert asked[0]["usage"] is None
    assert all("usage" not in e for e in never[:-1])


def test_refusal_field_whole_and_streamed() -> None:
    """``refusal`` fills the refusal field and leaves the content null."""
    with Upstream({"m": Reply(refusal="I cannot do that.")}) as upstream:
        whole = json.loads(post(upstream, CHAT)[2])["choices"][0]["message"]
        chunks = events(post(upstream, CHAT, stream=True)[2])[:-1]
    assert whole["refusal"] == "I cannot do that."
    assert whole["content"] is None
    pieces = [c["choices"][0]["delta"].get("refusal") for c in chunks]
    assert "".join(p for p in pieces if p) == "I cannot do that."


def test_choices_take_turns_in_a_stream() -> None:
    """With ``n`` every choice has its own text, role and finish chunk; choices interleave."""
    with Upstream({"m": Reply(("aaaaaa", "b"), chunk_size=3)}) as upstream:
        whole = json.loads(post(upstream, CHAT, n=3)[2])["choices"]
        chunks = events(post(upstream, CHAT, n=2, stream=True)[2])[:-1]
    assert [c["message"]["content"] for c in whole] == ["aaaaaa", "b", "aaaaaa"]
    choices = [c["choices"][0] for c in chunks]
    assert [c["index"] for c in choices] == [0, 1, 0, 1, 0, 1, 0]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop", "stop"]


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_in_every_api(stream: bool) -> None:
    """A tool call arrives in each API's own shape, with its own finish reason."""
    reply = Reply(tool_calls=(ToolCall("look_up", '{"q": "weather"}'),))
    with Upstream({"m": reply}) as upstream:
        raw = {path: post(upstream, path, stream=stream)[2] for path in (CHAT, RESPONSES, MESSAGES)}
    if not stream:
        choice = json.loads(raw[CHAT])["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "look_up"
        item = json.loads(raw[RESPONSES])["output"][0]
        assert (item["type"], item["arguments"]) == ("function_call", '{"q": "weather"}')
        message = json.loads(raw[MESSAGES])
        assert message["stop_reason"] == "tool_use"
        assert message["content"][0]["input"] == {"q": "weather"}
        return
    calls = [
        c["choices"][0]["delta"]["tool_calls"][0]["function"]
        for c in events(raw[CHAT])[:-1]
        if "tool_calls" in c["choices"][0]["delta"]
    ]
    assert calls[0] == {"name": "look_up", "arguments": ""}
    assert "".join(call["arguments"] for call in calls) == '{"q": "weather"}'
    kinds = [e["type"] for e in events(raw[RESPONSES])]
    assert "response.function_call_arguments.done" in kinds
    pieces = [
        e["delta"]["partial_json"] for e in events(raw[MESSAGES]) if "block_delta" in e["type"]
    ]
    assert json.loads("".join(pieces)) == {"q": "weather"}


def test_reasoning_comes_before_the_text() -> None:
    """Reasoning is streamed in its own field, before any visible text, in every API."""
    with Upstream({"m": Reply("Yes.", reasoning="Hmm, let me see.")}) as upstream:
        chat = [c["choices"][0]["delta"] for c in events(post(upstream, CHAT, stream=True)[2])[:-1]]
        kinds = [e["type"] for e in events(post(upstream, RESPONSES, stream=True)[2])]
        deltas = [e.get("delta", {}) for e in events(post(upstream, MESSAGES, stream=True)[2])]
    assert "".join(d.get("reasoning_content", "") for d in chat) == "Hmm, let me see."
    assert "reasoning_content" in chat[1]
    reasoned = kinds.index("response.reasoning_summary_text.delta")
    assert reasoned < kinds.index("response.output_text.delta")
    assert [d["type"] for d in deltas if "type" in d][-1] == "text_delta"
    assert "".join(d.get("thinking", "") for d in deltas) == "Hmm, let me see."


def test_responses_whole_and_streamed_agree() -> None:
    """The last event of a Responses stream is the whole response; its deltas are the text."""
    with Upstream({"m": Reply("Hello there.")}) as upstream:
        whole = json.loads(post(upstream, RESPONSES)[2])
        stream = events(post(upstream, RESPONSES, stream=True)[2])
    assert whole["output"][0]["content"][0]["text"] == "Hello there."
    assert stream[0]["type"] == "response.created"
    assert stream[-1]["type"] == "response.completed"
    assert stream[-1]["response"]["output"][0]["content"] == whole["output"][0]["content"]
    deltas = [e["delta"] for e in stream if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Hello there."
    assert [e["sequence_number"] for e in stream] == list(range(len(stream)))


def test_responses_refusal_and_content_filter() -> None:
    """A refusal part has its own events; a filtered response ends incomplete."""
    script = {"m": Reply(refusal="No."), "cut": Reply("Wel", finish_reason="content_filter")}
    with Upstream(script) as upstream:
        stream = events(post(upstream, RESPONSES, stream=True)[2])
        filtered = json.loads(post(upstream, RESPONSES, model="cut")[2])
        last = events(post(upstream, RESPONSES, model="cut", stream=True)[2])[-1]
    assert [e["refusal"] for e in stream if e["type"] == "response.refusal.done"] == ["No."]
    assert filtered["status"] == "incomplete"
    assert filtered["incomplete_details"] == {"reason": "content_filter"}
    assert last["type"] == "response.incomplete"


def test_messages_whole_and_streamed_agree() -> None:
    """A Messages stream opens, fills and closes the block that the whole message holds."""
    with Upstream({"m": Reply("Hello there.")}) as upstream:
        whole = json.loads(post(upstream, MESSAGES)[2])
        stream = events(post(upstream, MESSAGES, stream=True)[2])
    assert whole["content"] == [{"type": "text", "text": "Hello there."}]
    assert whole["stop_reason"] == "end_turn"
    assert stream[0]["type"] == "message_start"
    assert stream[0]["message"]["content"] == []
    assert [e["type"] for e in stream][-2:] == ["message_delta", "message_stop"]
    deltas = [e["delta"]["text"] for e in stream if e["type"] == "content_block_delta"]
    assert "".join(deltas) == "Hello there."
    assert stream[-2]["delta"]["stop_reason"] == "end_turn"


def test_messages_refusal_and_stop_details() -> None:
    """A refusal is Anthropic's stop reason, with its details where scripted."""
    details = {"type": "refusal", "category": "cyber"}
    with Upstream({"m": Reply(refusal="No.", stop_details=details)}) as upstream:
        whole = json.loads(post(upstream, MESSAGES)[2])
        last = events(post(upstream, MESSAGES, stream=True)[2])[-2]
    assert whole["content"] == [{"type": "text", "text": "No."}]
    assert (whole["stop_reason"], whole["stop_details"]) == ("refusal", details)
    assert last["delta"] == {
        "stop_sequence": None, "stop_reason": "refusal", "stop_details": details,
    }  # fmt: skip


def test_models_and_unknown_things() -> None:
    """Models are listed; an unknown model or path is 404, a broken body 400, in OpenAI's shape."""
    with Upstream({"m": Reply("Hi"), "other": Reply("Hi")}) as upstream:
        connection = http.client.HTTPConnection(urlsplit(upstream.origin).netloc, timeout=10)
        connection.request("GET", "/v1/models")
        models = json.loads(connection.getresponse().read())
        connection.request("POST", CHAT, b"not json")
        broken = connection.getresponse()
        broken.read()
        connection.close()
        missing = post(upstream, CHAT, model="nobody")
        nowhere = post(upstream, "/v1/embeddings")
    assert [m["id"] for m in models["data"]] == ["m", "other"]
    assert (missing[0], nowhere[0], broken.status) == (404, 404, 400)
    assert "nobody" in json.loads(missing[2])["error"]["message"]


def test_scripted_error_and_raw_bodies() -> None:
    """A status becomes the API's error shape; raw bytes go out as they are, whole or in pieces."""
    script = {
        "m": Reply("Slow down", status=429, headers={"Retry-After": "7"}),
        "raw": Reply(body=b"\xff\xfe", headers={"Content-Type": "text/plain"}),
        "pieces": Reply(body=(b"data: caf\xc3", b"\xa9\r\n\r\n")),
    }
    with Upstream(script) as upstream:
        status, headers, raw = post(upstream, CHAT)
        anthropic = json.loads(post(upstream, MESSAGES)[2])
        raw_headers, raw_body = post(upstream, CHAT, model="raw")[1:]
        pieces = post(upstream, CHAT, model="pieces", stream=True)[2]
    assert (status, headers["retry-after"]) == (429, "7")
    assert json.loads(raw)["error"]["message"] == "Slow down"
    assert anthropic["type"] == "error"
    assert (raw_headers["content-type"], raw_body) == ("text/plain", b"\xff\xfe")
    assert pieces == b"data: caf\xc3\xa9\r\n\r\n"


def test_replies_in_turn_and_by_function() -> None:
    """A sequence answers in turn, its last for good; a function sees the request."""
    script = {
        "m": (Reply("one"), Reply("two")),
        "echo": lambda body: Reply(body["messages"][0]["content"]),
    }
    with Upstream(script) as upstream:
        said = [
            json.loads(post(upstream, CHAT)[2])["choices"][0]["message"]["content"]
            for _ in range(3)
        ]
        echo = post(upstream, CHAT, model="echo", messages=[{"role": "user", "content": "Hey"}])
    assert said == ["one", "two", "two"]
    assert json.loads(echo[2])["choices"][0]["message"]["content"] == "Hey"


def test_requests_are_recorded() -> None:
    """A record holds path, model, body and lower-cased headers, and says when it is finished."""
    with Upstream({"m": Reply("Hi")}) as upstream:
        post(upstream, "/openai/deployments/m/chat/completions?api-version=1", stream=True)
        (record,) = upstream.calls("m")
        assert record.finished.wait(5)
    assert record.path == "/openai/deployments/m/chat/completions?api-version=1"
    assert record.stream
    assert record.body == {"model": "m", "stream": True}
    assert "content-length" in record.headers
    assert record.chunks_sent == 4
    assert not record.cut


def test_a_client_that_leaves_is_noticed_at_once() -> None:
    """A closed connection counts as cut while the server waits, long before its next write."""
    with Upstream({"m": Reply("I'm sorry, but no.", delay=30)}) as upstream:
        raw = open_stream(upstream)
        read_until(raw, b'"role"')
        started = time.monotonic()
        raw.close()
        assert upstream.wait_for_cut("m", timeout=5)
        assert time.monotonic() - started < 1
        (record,) = upstream.calls("m")
        assert record.finished.is_set()
        assert record.chunks_sent == 1


def test_a_client_that_leaves_before_the_first_event_is_noticed() -> None:
    """Leaving during the first delay counts as cut, for whole responses too."""
    with Upstream({"m": Reply("Hi", first_delay=30)}) as upstream:
        open_stream(upstream, stream=False).close()
        assert upstream.wait_for_cut("m", timeout=5)


def test_a_client_that_stays_is_not_cut() -> None:
    """A stream read to its end, and then closed, is not cut."""
    with Upstream({"m": Reply("Hi")}) as upstream:
        raw = open_stream(upstream)
        read_until(raw, b"0\r\n\r\n")
        raw.close()
        assert not upstream.wait_for_cut("m", timeout=0.2)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_reset_after_drops_the_connection(path: str) -> None:
    """``reset_after`` events the connection ends without the closing chunk; it is no cut."""
    with Upstream({"m": Reply("A long enough text.", reset_after=4)}) as upstream:
        raw = open_stream(upstream, path)
        seen = b""
        while piece := raw.recv(65536):
            seen += piece
        raw.close()
        (record,) = upstream.calls("m")
        assert record.finished.wait(5)
        whole = http.client.HTTPConnection(urlsplit(upstream.origin).netloc, timeout=10)
        whole.request("POST", path, b'{"model": "m"}')
        with whole.getresponse() as response, pytest.raises(http.client.IncompleteRead):
            response.read()
        whole.close()
    assert seen.count(b"data: ") == 4
    assert b"0\r\n\r\n" not in seen
    assert record.chunks_sent == 4
    assert not record.cut


@pytest.mark.parametrize(
    ("path", "last"),
    [(CHAT, b"[DONE]"), (RESPONSES, b"response.completed"), (MESSAGES, b"message_stop")],
)
def test_omit_done_leaves_out_the_closing_event(path: str, last: bytes) -> None:
    """``omit_done`` leaves out exactly the event that closes a stream."""
    with Upstream({"m": Reply("Hi"), "cut": Reply("Hi", omit_done=True)}) as upstream:
        whole = post(upstream, path, stream=True)[2]
        short = post(upstream, path, stream=True, model="cut")[2]
    assert last in whole
    assert last not in short
    assert whole.count(b"data: ") == short.count(b"data: ") + 1


def test_delays_space_the_events() -> None:
    """``first_delay`` comes once before the first event, ``delay`` before each further one."""
    reply = Reply("Hi", first_delay=0.2, delay=0.1)
    with Upstream({"m": reply}) as upstream:
        started = time.monotonic()
        post(upstream, CHAT, stream=True)
        took = time.monotonic() - started
    assert 0.5 <= took < 2.0


def test_closing_frees_a_client_that_waits() -> None:
    """``close`` drops open connections, so that no client hangs on a server that is gone."""
    upstream = Upstream({"m": Reply("Hi", delay=30)})
    raw = open_stream(upstream)
    read_until(raw, b'"role"')
    upstream.close()
    with raw:
        assert raw.recv(65536) == b""


def test_a_reply_that_contradicts_itself_is_rejected() -> None:
    """Chunks that are not the text, and chunks without size, are errors where they are written."""
    with pytest.raises(ValueError, match="chunks must join"):
        Reply("Hello", chunks=("Hel",))
    with pytest.raises(ValueError, match="chunk_size"):
        Reply("Hello", chunk_size=0)

"""What holds for all three shapes: nothing raises, and a stream says what the whole says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.testing import Reply, chat_shape, messages_shape, responses_shape
from demur.testing.reply import Exchange, ToolCall
from demur.vocabulary import Api, Chunk, Completion, Evidence, Usage
from demur.wire import SSEReader, shape_for

APIS: tuple[Api, ...] = ("chat", "responses", "messages")
SERVERS = {"chat": chat_shape, "responses": responses_shape, "messages": messages_shape}

KEYS = st.sampled_from(
    [
        *("choices", "message", "delta", "content", "text", "refusal", "finish_reason", "index"),
        *("type", "output", "item", "part", "status", "response", "incomplete_details", "reason"),
        *("usage", "prompt_tokens", "input_tokens", "error", "model", "tool_calls", "filtered"),
        *("stop_reason", "stop_details", "category", "content_block", "provider_specific_fields"),
        *("native_finish_reason", "content_filter_results", "promptFeedback", "blockReason"),
        *("trace", "action"),
    ]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(
        [
            *("message", "text", "refusal", "content_filter", "completed", "incomplete", "stop"),
            *("message_start", "message_delta", "content_block_start", "content_block_delta"),
            *("text_delta", "response.output_text.delta", "response.refusal.delta", "error"),
            *("response.completed", "response.output_item.added"),
        ]
    ),
)
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.text(), inner), max_leaves=25
)


@pytest.mark.parametrize("api", APIS)
@given(payload=JSON)
def test_any_json_is_read(api: Api, payload: object) -> None:
    """No JSON raises; the native object is carried along; counts and indices are never negative."""
    native = object()
    shape = shape_for(api)
    completion = shape.read_completion(payload, native)
    chunk = shape.read_chunk(payload, native)
    assert completion.native is native
    assert chunk.native is native
    assert all(isinstance(evidence, Evidence) for evidence in completion.choices)
    assert all(delta.index >= 0 for delta in chunk.deltas)
    for usage in (completion.usage, chunk.usage):
        assert usage is None or (usage.input_tokens >= 0 and usage.output_tokens >= 0)
    assert not (chunk.opaque and chunk.deltas)


@pytest.mark.parametrize("api", APIS)
@given(payload=JSON)
def test_signals_hold_tokens_only(api: Api, payload: object) -> None:
    """Whatever stands where a token belongs, no free text gets into a record."""
    shape = shape_for(api)
    signals = [s for e in shape.read_completion(payload, None).choices for s in e.signals]
    signals += [s for d in shape.read_chunk(payload, None).deltas for s in d.signals]
    assert all(len(s.value) <= 64 and s.value.isprintable() and " " not in s.value for s in signals)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "data", ["", "{", "nul", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, "\ud800", "\x00"]
)
def test_malformed_events_are_opaque(api: Api, data: str) -> None:
    """What is no JSON makes the stream opaque, and a body of it has no choices."""
    native = object()
    assert shape_for(api).read_event(None, data, native) == Chunk(native, opaque=True)
    assert shape_for(api).read_body(data, native) == Completion((), native)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("payload", [{"error": {"message": "no"}}, {"error": "no"}, [], None, "x"])
def test_errors_are_not_judged(api: Api, payload: object) -> None:
    """An error body has no choices, an error event is opaque."""
    assert shape_for(api).read_completion(payload, None).choices == ()
    assert shape_for(api).read_chunk(payload, None).opaque


@pytest.mark.parametrize("api", APIS)
def test_named_error_event_is_opaque(api: Api) -> None:
    """An event named error is one, whatever its data; the end marker is none."""
    assert shape_for(api).read_event("error", '{"message": "overloaded"}').opaque
    assert shape_for(api).read_event(None, " [DONE] ") == Chunk(None, done=True)


def gather(chunks: Iterable[Chunk]) -> tuple[dict[int, Evidence], Usage, set[int]]:
    """What a stream said, choice by choice."""
    choices: dict[int, Evidence] = {}
    finished = set()
    usage = Usage()
    for chunk in chunks:
        assert not chunk.opaque
        if chunk.usage:
            usage = Usage(
                max(usage.input_tokens, chunk.usage.input_tokens),
                max(usage.output_tokens, chunk.usage.output_tokens),
            )
        for delta in chunk.deltas:
            before = choices.get(delta.index, Evidence())
            choices[delta.index] = Evidence(
                before.text + delta.text,
                before.refusal + delta.refusal,
                before.signals + delta.signals,
                before.non_text or delta.non_text,
            )
            if delta.finished:
                finished.add(delta.index)
    return choices, usage, finished


THOUGHT = "<a thought>"
TEXTS = st.text(max_size=40)
REPLIES = st.builds(
    Reply,
    text=TEXTS | st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    refusal=st.none() | st.text(min_size=1, max_size=40),
    finish_reason=st.sampled_from(["stop", "length", "content_filter"]),
    tool_calls=st.just(()) | st.just((ToolCall("look", '{"a": 1}'),)),
    reasoning=st.sampled_from(["", THOUGHT]),
    chunk_size=st.integers(1, 7),
    include_usage=st.just(True),
)


@pytest.mark.parametrize("api", APIS)
@given(reply=REPLIES, places=st.lists(st.integers(0)))
def test_stream_says_what_the_whole_says(api: Api, reply: Reply, places: list[int]) -> None:
    """A reply read from its stream, cut anywhere, gives the evidence of the reply read whole."""
    exchange = Exchange(reply, {"model": "m", "stream": True})
    whole = shape_for(api).read_body(json.dumps(SERVERS[api].body(exchange)))
    data = b"".join(SERVERS[api].events(exchange))
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    reader = SSEReader()
    events = [e for a, b in itertools.pairwise(edges) for e in reader.feed(data[a:b])]
    chunks = [shape_for(api).read_event(*event) for event in events + reader.finish()]
    choices, usage, finished = gather(chunks)
    assert tuple(choices[index] for index in sorted(choices)) == whole.choices
    assert usage == whole.usage
    assert finished == set(range(len(whole.choices)))
    assert {chunk.model for chunk in chunks} <= {whole.model, None}
    assert whole.model == "m"
    assert bool(reply.reasoning) <= any(d.reasoning for chunk in chunks for d in chunk.deltas)
    assert all(THOUGHT not in evidence.text + evidence.refusal for evidence in whole.choices)
    assert all(evidence.non_text == bool(reply.tool_calls) for evidence in whole.choices)


def test_events_that_come_together() -> None:
    """They are one chunk: it says what they say, up to an error, and whether the stream is over."""
    said = (None, '{"choices": [{"index": 0, "delta": {"content": "Hi"}}]}')
    shape = shape_for("chat")
    chunk = shape.read_events([said, ("error", "{}"), said], b"raw")
    assert (chunk.native, [d.text for d in chunk.deltas], chunk.opaque) == (b"raw", ["Hi"], True)
    chunk = shape.read_events([said, said, (None, "[DONE]")])
    assert ([d.text for d in chunk.deltas], chunk.done) == (["Hi", "Hi"], True)

"""Streams through a wrapped client: held, released or replaced, and the SDK's own throughout."""

from __future__ import annotations

import gc
import gzip
import json
import threading
import time
from typing import Any

import openai
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, piece, retrying, sse

import demur
from demur.detection.embedded import EmbeddedDetector
from demur.testing import HangingDetector, RaisingDetector, Reply, ToolCall


def test_a_refused_stream_is_replaced_and_cut(caller, serve):
    """Nothing of the refusal is seen, its connection is cut, the fallback's stream is whole."""
    upstream = serve(primary=Reply(REFUSAL * 20, delay=0.02), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    stream = caller.create(client, stream=True)
    items = caller.items(stream)
    assert {item.model for item in items} == {"second"}
    assert "".join(i.choices[0].delta.content or "" for i in items if i.choices) == ANSWER
    assert upstream.wait_for_cut("primary")
    assert upstream.calls("primary")[0].chunks_sent < 30
    outcome = demur.outcome_of(stream)
    assert outcome.finished
    assert (outcome.ending, outcome.served_model, outcome.stream) == ("fell_back", "second", True)
    assert outcome.held_seconds is not None


SUSPECT = (
    "Breaking into a neighbour's wireless network without permission is against the law in most "
    "countries and it can be punished. It is important to respect the privacy of others, so I "
    "won't explain how that is done. You could ask your neighbour to share the password."
)


@pytest.mark.parametrize(("suspect_chars", "served"), [(None, "second"), (160, "primary")])
def test_a_suspect_stream_is_held_for_longer(caller, serve, suspect_chars, served):
    """At 160 characters the detector is unsure, at 192 its encoder finds the refusal."""
    upstream = serve(primary=Reply(SUSPECT), second=Reply(ANSWER))
    policy = retrying()
    hold_back = {"suspect_chars": suspect_chars, "seconds": None}
    policy["rules"][0]["stream"] = {"hold_back": hold_back}
    client = caller.wrap(upstream, policy=policy, detector=EmbeddedDetector.load())
    items = caller.items(caller.create(client, stream=True))
    assert {item.model for item in items} == {served}


def test_an_answers_items_are_those_of_a_plain_client(caller, serve):
    """Every chunk of an answer arrives, equal and in order, usage included."""
    upstream = serve(primary=Reply(ANSWER, usage=None), second=Reply("never"))
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    wrapped = caller.items(caller.create(caller.wrap(upstream), **options))
    plain = caller.items(caller.create(caller.client(upstream), **options))
    strip = {"id", "created"}
    assert [i.model_dump(exclude=strip) for i in wrapped] == [
        i.model_dump(exclude=strip) for i in plain
    ]
    assert wrapped[-1].usage is not None
    assert not upstream.calls("second")


def test_the_stream_is_the_sdks_own_object(caller, serve):
    """isinstance, ``response`` and the context manager are the SDK's; the outcome grows with it."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, headers={"x-from": "second"}))
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert isinstance(stream, openai.Stream | openai.AsyncStream)
    assert stream.response.headers["x-from"] == "second"
    assert not demur.outcome_of(stream).finished
    caller.items(stream)
    assert demur.outcome_of(stream).finished
    assert demur.outcome_of(stream.response).finished


def test_a_tag_only_policy_holds_nothing_back(caller, serve):
    """Where a verdict could change nothing, the first chunk arrives as soon as it was sent."""
    upstream = serve(primary=Reply("I'm so", chunks=("I'm", " so"), delay=1.0))
    client = caller.wrap(upstream, policy={"version": 1})
    start = time.monotonic()
    stream = caller.create(client, stream=True)
    caller.items(stream, limit=1)
    assert time.monotonic() - start < 0.9
    caller.wait(stream.close())


def test_closing_early_closes_the_upstream(caller, serve):
    """A consumer that stops reading cuts the connection, as it would without demur."""
    upstream = serve(primary=Reply(ANSWER * 50, delay=0.02))
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert len(caller.items(stream, limit=5)) == 5
    caller.wait(stream.close())
    assert upstream.wait_for_cut("primary")
    outcome = demur.outcome_of(stream)
    assert outcome.finished
    assert outcome.ending == "accepted"


def test_closing_before_reading_closes_the_upstream(caller, serve):
    """A stream that is closed unread is cut and recorded too."""
    upstream = serve(primary=Reply(ANSWER * 50, delay=0.02))
    stream = caller.create(caller.wrap(upstream), stream=True)
    caller.wait(stream.close())
    caller.wait(stream.close())
    assert upstream.wait_for_cut("primary")
    assert demur.outcome_of(stream).finished


def test_exhausted_first_gives_the_original_refusal_whole(caller, serve):
    """With the fallback refusing too, the first refusal arrives complete and alone."""
    upstream = serve(
        primary=Reply(REFUSAL, delay=0.01), second=Reply("I cannot. " * 30, delay=0.02)
    )
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert caller.text(stream) == REFUSAL
    assert upstream.wait_for_cut("second")
    assert demur.outcome_of(stream).ending == "exhausted"


def test_exhausted_error_raises_before_any_item(caller, serve):
    """``exhausted: error`` raises from ``create`` and leaves no stream open."""
    upstream = serve(primary=Reply(REFUSAL * 9, delay=0.02), second=Reply(REFUSAL * 9, delay=0.02))
    client = caller.wrap(upstream, policy=retrying(exhausted="error"))
    with pytest.raises(demur.RefusedError):
        caller.create(client, stream=True)
    assert upstream.wait_for_cut("primary")
    assert upstream.wait_for_cut("second")


@pytest.mark.parametrize(
    "broken",
    [Reply("down", status=500), Reply(ANSWER, reset_after=2), Reply(ANSWER, first_delay=9)],
    ids=["500", "reset", "stalled"],
)
def test_a_fallback_that_fails_leaves_the_original(caller, serve, broken):
    """A fallback that errors, breaks or stalls while held costs the caller nothing but time."""
    upstream = serve(primary=Reply(REFUSAL), second=broken)
    client = caller.wrap(upstream, policy=retrying(seconds=0.5))
    stream = caller.create(client, stream=True)
    assert caller.text(stream) == REFUSAL
    assert [a.outcome for a in demur.outcome_of(stream).attempts] == ["refused", "failed"]


def test_a_tool_call_is_released_at_once(caller, serve):
    """A tool call delivers, whatever text stood before it."""
    reply = Reply("I'm", tool_calls=(ToolCall("look", '{"at": "it"}'),))
    upstream = serve(primary=reply, second=Reply(ANSWER))
    items = caller.items(caller.create(caller.wrap(upstream), stream=True))
    assert any(i.choices[0].delta.tool_calls for i in items if i.choices)
    assert not upstream.calls("second")


@pytest.mark.parametrize(
    "detector", [RaisingDetector(), HangingDetector()], ids=["raises", "hangs"]
)
def test_a_broken_detector_never_costs_the_stream(caller, serve, detector):
    """A detector that raises or hangs gives the original stream in bounded time."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    policy = {**retrying(), "detector": {"seconds": 0.1}}
    start = time.monotonic()
    stream = caller.create(caller.wrap(upstream, policy=policy, detector=detector), stream=True)
    assert caller.text(stream) == REFUSAL
    assert time.monotonic() - start < 10
    if isinstance(detector, HangingDetector):
        detector.release()


def test_the_time_cap_releases_a_slow_undecided_stream(caller, serve):
    """After ``hold_back.seconds`` of visible text the stream is passed on, still undecided."""
    body = sse(piece("I'm"), piece(" sorry", "stop"), "[DONE]")
    upstream = serve(primary=Reply(body=body, delay=1.0), second=Reply(ANSWER))
    policy = retrying()
    policy["rules"][0]["stream"] = {"hold_back": {"seconds": 0.2}}
    start = time.monotonic()
    stream = caller.create(caller.wrap(upstream, policy=policy), stream=True)
    assert 0.2 <= time.monotonic() - start < 0.9
    assert caller.text(stream) == "I'm sorry"
    outcome = demur.outcome_of(stream)
    assert outcome.ending == "accepted"
    assert outcome.verdict.label == "refusal"


def test_an_error_event_arrives_as_without_demur(caller, serve):
    """An error inside the stream is raised by the SDK in its place."""
    body = sse(piece("I'm"), '{"error": {"message": "overloaded", "code": 529}}')
    upstream = serve(primary=Reply(body=body), second=Reply(ANSWER))
    stream = caller.create(caller.wrap(upstream), stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        caller.items(stream)
    assert not upstream.calls("second")


def test_a_connection_lost_midway_breaks_where_it_did(caller, serve):
    """What came before a lost connection is delivered; then the same error as without demur."""
    seen = []
    for client in (
        caller.wrap(serve(primary=Reply(ANSWER, reset_after=3))),
        caller.client(serve(primary=Reply(ANSWER, reset_after=3))),
    ):
        texts: list[str] = []
        stream = caller.create(client, stream=True)
        with pytest.raises(Exception) as caught:  # noqa: PT011, PT012 - whatever the SDK raises
            while True:
                (item,) = caller.items(stream, limit=1)
                texts.append(item.choices[0].delta.content)
        seen.append((texts, type(caught.value)))
    assert seen[0] == seen[1]


def test_odd_but_legal_streams_arrive_unchanged(caller, serve):
    """CR and CRLF line ends, comments, split characters and Azure's empty first chunk pass."""
    raw = (
        b': hello\r\n\r\ndata: {"id":"","object":"","created":0,"model":"","choices":[],'
        b'"prompt_filter_results":[{"prompt_index":0}]}\r\n\r\n'
        + "".join(f"data: {piece(t)}\r\r" for t in ("Grüße ", "aus ", "Köln ✓")).encode()
        + b"data: [DONE]\n\n"
    )
    cut = tuple(raw[i : i + 7] for i in range(0, len(raw), 7))
    upstream = serve(primary=Reply(body=cut))
    items = caller.items(caller.create(caller.wrap(upstream), stream=True))
    assert items[0].choices == []
    assert "".join(i.choices[0].delta.content for i in items[1:]) == "Grüße aus Köln ✓"


def test_raw_bytes_of_an_answer_are_those_sent(caller, serve):
    """``with_raw_response`` and ``stream=True``: the bytes are the upstream's, to the last one."""
    body = sse(piece("Sure. "), piece("Here you are"), "[DONE]")
    upstream = serve(primary=Reply(body=body))
    create = caller.wrap(upstream).chat.completions.with_raw_response.create
    raw = caller.wait(create(model="primary", messages=MESSAGES, stream=True))
    response = raw.http_response
    if caller.kind == "sync":
        got = b"".join(response.iter_raw())
    else:
        got = b"".join(caller.items(response.aiter_raw()))
    assert got == b"".join(body)
    assert response.is_closed
    assert demur.outcome_of(raw).finished


def test_a_compressed_stream_is_judged_on_a_decoded_copy(caller, serve):
    """Content encodings are looked through, and the raw bytes left alone."""
    packed = gzip.compress(b"".join(sse(piece(REFUSAL), "[DONE]")))
    parts = tuple(packed[i : i + 40] for i in range(0, len(packed), 40))
    primary = Reply(
        body=parts, headers={"content-encoding": "gzip", "content-type": "text/event-stream"}
    )
    upstream = serve(primary=primary, second=Reply(ANSWER))
    assert caller.text(caller.create(caller.wrap(upstream), stream=True)) == ANSWER


def test_the_stream_helper_sees_one_model(caller, serve):
    """``chat.completions.stream`` accumulates the served model's answer only."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    helper = client.chat.completions.stream(model="primary", messages=MESSAGES)
    if caller.kind == "sync":
        with helper as stream:
            final = stream.get_final_completion()
    else:

        async def read():
            async with helper as stream:
                return await stream.get_final_completion()

        final = caller.wait(read())
    assert final.choices[0].message.content == ANSWER


def test_responses_streams_are_replaced_too(caller, serve):
    """``/responses`` streams: the events are the fallback's, from its created to its completed."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    stream = caller.wait(client.responses.create(model="primary", input="How?", stream=True))
    events = caller.items(stream)
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == ANSWER
    assert demur.outcome_of(stream).ending == "fell_back"


def said(text):
    return [{"type": "output_text", "text": text, "annotations": []}]


def in_the_end(output, between=()):
    """A Responses stream that gives its output in its last event."""
    head = {"id": "r", "object": "response", "created_at": 1, "model": "primary", "error": None}
    body = {**head, "status": "completed", "output": [output]}
    events = [
        {"type": "response.created", "response": {**body, "status": "in_progress", "output": []}},
        *between,
        {"type": "response.completed", "response": body},
    ]
    return Reply(body=sse(*map(json.dumps, events)))


@pytest.mark.parametrize(
    ("output", "between", "ending"),
    [
        ({"type": "message", "content": said(ANSWER)}, (), "accepted"),
        (
            {"type": "message", "content": said(ANSWER)},
            ({"type": "response.output_text.done", "text": ANSWER},),
            "accepted",
        ),
        ({"type": "function_call", "call_id": "c", "name": "go"}, (), "accepted"),
        ({"type": "message", "content": said(REFUSAL)}, (), "fell_back"),
    ],
    ids=["text", "done", "call", "refusal"],
)
def test_output_without_deltas_is_judged(caller, serve, output, between, ending):
    """A gateway that imitates streams may tell all at once, in the last event."""
    client = caller.wrap(serve(primary=in_the_end(output, between), second=Reply(ANSWER)))
    stream = caller.wait(client.responses.create(model="primary", input="x", stream=True))
    assert caller.items(stream)
    assert demur.outcome_of(stream).ending == ending


def test_of_several_streamed_choices_one_that_delivers_is_enough(caller, serve):
    """With n > 1 a stream is replaced only if every choice refuses."""
    upstream = serve(mixed=Reply((REFUSAL, ANSWER)), none=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    mixed = caller.items(caller.create(client, "mixed", stream=True, n=2))
    assert {i.model for i in mixed} == {"mixed"}
    none = caller.items(caller.create(client, "none", stream=True, n=2))
    assert {i.model for i in none} == {"second"}


def test_shadow_mode_streams_are_untouched(caller, serve):
    """Shadow mode holds nothing and serves the refusal, and records what it would have done."""
    upstream = serve(primary=Reply(REFUSAL, delay=0.01), second=Reply(ANSWER))
    client = caller.wrap(upstream, policy={**retrying(), "mode": "shadow"})
    stream = caller.create(client, stream=True)
    assert caller.text(stream) == REFUSAL
    outcome = demur.outcome_of(stream)
    assert (outcome.ending, outcome.would) == ("accepted", "fell_back")
    assert not upstream.calls("second")


def test_no_thread_and_no_garbage_is_left_behind(caller, serve):
    """Streams read, closed early or dropped leave no reading thread and no warning."""
    upstream = serve(primary=Reply(REFUSAL, delay=0.01), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    for limit in (None, 1, 0):
        stream = caller.create(client, stream=True)
        caller.items(stream, limit)
        caller.wait(stream.close())
        del stream
    gc.collect()
    deadline = time.monotonic() + 3
    while any(t.name == "demur-read" for t in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)


def test_the_end_of_the_events_decides_not_the_end_of_the_connection(caller, serve):
    """After ``[DONE]`` nothing more is waited for, however long the server keeps the line open."""
    body = sse(piece("Hi"), "[DONE]", "never read")
    upstream = serve(primary=Reply(body=(body[0] + body[1], body[2]), delay=20))
    start = time.monotonic()
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert caller.text(stream) == "Hi"
    caller.wait(stream.close())
    assert time.monotonic() - start < 10
    assert demur.outcome_of(stream).verdict.label == "normal"

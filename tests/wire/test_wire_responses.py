"""OpenAI Responses: items, events and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from demur.vocabulary import Chunk, Completion, Delta, Evidence, Signal, Usage
from demur.wire import shape_for

RESPONSES = shape_for("responses")
FILTER = Signal("incomplete_details.reason", "content_filter", "filter")


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": []}


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "object": "response",
        "status": "completed",
        "error": None,
        "model": "m",
        "output": list(output),
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        **fields,
    }


def evidence(payload: dict[str, Any]) -> Evidence:
    (only,) = RESPONSES.read_completion(payload, None).choices
    return only


def test_messages_are_one_choice() -> None:
    """All items make one choice: text joined, the refusal apart, reasoning left out."""
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I can't"}]}
    refused = {"type": "refusal", "refusal": "No."}
    payload = response(reasoning, message(text("a"), text("b")), message(refused))
    assert RESPONSES.read_completion(payload, 1) == Completion(
        (Evidence("ab", "No."),), 1, "m", Usage(3, 4)
    )


@pytest.mark.parametrize(
    "kind", ["function_call", "custom_tool_call", "computer_call", "image_generation_call", "new"]
)
def test_calls_are_deliveries(kind: str) -> None:
    """What the caller must work off, an image, or an item nobody knows is something delivered."""
    assert evidence(response({"type": kind})) == Evidence(non_text=True)
    event = {"type": "response.output_item.added", "item": {"type": kind}}
    assert RESPONSES.read_chunk(event, None).deltas == (Delta(non_text=True),)


@pytest.mark.parametrize(
    "kind", ["web_search_call", "file_search_call", "mcp_call", "tool_execution_results"]
)
def test_hosted_tools_are_not(kind: str) -> None:
    """After a tool that the provider ran, the text is still the answer, and may refuse."""
    assert evidence(response({"type": kind}, message(text("No.")))) == Evidence("No.")
    event = {"type": "response.output_item.added", "item": {"type": kind}}
    assert RESPONSES.read_chunk(event, None).deltas == (Delta(reasoning=True),)


@pytest.mark.parametrize("status", ["failed", "in_progress", "queued", "cancelled", 7])
def test_unfinished_responses_are_not_judged(status: object) -> None:
    """A background response that still runs is not an empty answer."""
    completion = RESPONSES.read_completion(response(status=status), None)
    assert completion.choices == ()
    assert completion.model == "m"


def test_incomplete() -> None:
    """A filter is a signal that refuses, a token limit one that does not."""
    filtered = response(status="incomplete", incomplete_details={"reason": "content_filter"})
    assert evidence(filtered).signals == (FILTER,)
    limit = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    (signal,) = evidence(limit).signals
    assert (signal.value, signal.refuses) == ("max_output_tokens", False)


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        ({"type": "response.output_text.delta", "delta": "a"}, Delta(text="a")),
        ({"type": "response.refusal.delta", "delta": "a"}, Delta(refusal="a")),
        ({"type": "response.reasoning_text.delta", "delta": "a"}, Delta(reasoning=True)),
        ({"type": "response.reasoning_summary_text.delta", "delta": "a"}, Delta(reasoning=True)),
        ({"type": "response.function_call_arguments.delta", "delta": "{"}, Delta(non_text=True)),
        ({"type": "response.audio.delta", "delta": "AA"}, Delta(non_text=True)),
    ],
)
def test_deltas(event: dict[str, Any], delta: Delta) -> None:
    """Each kind of delta adds to its own field."""
    assert RESPONSES.read_chunk(event, "n") == Chunk("n", (delta,))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.done", "text": "a"},
        {"type": "response.refusal.done", "refusal": "a"},
        {"type": "response.content_part.done", "part": {"type": "output_text", "text": "a"}},
        {"type": "response.output_item.done", "item": {"type": "message", "content": []}},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.something.new", "delta": "a"},
        {"type": "keepalive"},
    ],
)
def test_events_that_add_nothing(event: dict[str, Any]) -> None:
    """What only repeats, and what nobody knows, adds no text."""
    assert RESPONSES.read_chunk(event, None) == Chunk(None)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_last_event(kind: str) -> None:
    """The last event brings usage, the reason, and the output, as a repetition."""
    body = response(message(text("a")), incomplete_details={"reason": "content_filter"})
    chunk = RESPONSES.read_chunk({"type": kind, "response": body}, None)
    end = Delta(signals=(FILTER,), finished=True, whole=Evidence("a"))
    assert chunk == Chunk(None, (end,), "m", Usage(3, 4))
    called = {"type": kind, "response": response({"type": "function_call"})}
    assert RESPONSES.read_chunk(called, None).deltas == (Delta(non_text=True, finished=True),)


def test_created_names_the_model() -> None:
    """The first event says which model serves."""
    event = {"type": "response.created", "response": response(status="in_progress")}
    assert RESPONSES.read_chunk(event, None) == Chunk(None, (), "m")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "x", "message": "y"},
        {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
        {"error": {"message": "x"}},
    ],
)
def test_failures_are_opaque(event: dict[str, Any]) -> None:
    """A stream that fails is passed on as it is."""
    assert RESPONSES.read_chunk(event, None) == Chunk(None, opaque=True)

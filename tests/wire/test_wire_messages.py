"""Anthropic Messages: blocks, events and stop reasons."""

from __future__ import annotations

from typing import Any

import pytest

from demur.vocabulary import Chunk, Completion, Delta, Evidence, Signal, Usage
from demur.wire import shape_for

MESSAGES = shape_for("messages")


def message(*blocks: Any, stop_reason: str | None = "end_turn", **fields: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 4},
        **fields,
    }


def evidence(payload: dict[str, Any]) -> Evidence:
    (only,) = MESSAGES.read_completion(payload, None).choices
    return only


def test_blocks() -> None:
    """Text blocks are joined, thinking is left out, cached input tokens count as input."""
    payload = message(
        {"type": "thinking", "thinking": "I can't"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": []},
    )
    assert MESSAGES.read_completion(payload, 1) == Completion(
        (Evidence("ab"),), 1, "claude", Usage(13, 4)
    )


def test_tools() -> None:
    """A tool the caller must run is a delivery; one that the provider ran is not."""
    assert evidence(message({"type": "tool_use", "name": "f"}, stop_reason="tool_use")).non_text
    hosted = ({"type": "server_tool_use"}, {"type": "web_search_tool_result", "content": []})
    assert evidence(message(*hosted, {"type": "text", "text": "No."})) == Evidence("No.")


def test_refusal() -> None:
    """The stop reason and its category are signals; the explanation is text and never recorded."""
    details = {"type": "refusal", "category": "bio", "explanation": "This request asks for"}
    assert evidence(message(stop_reason="refusal", stop_details=details)).signals == (
        Signal("stop_reason", "refusal", "policy"),
        Signal("stop_details.category", "bio", "policy"),
    )
    details = {"type": "refusal", "category": None}
    assert evidence(message(stop_reason="refusal", stop_details=details)).signals == (
        Signal("stop_reason", "refusal", "policy"),
    )


@pytest.mark.parametrize("reason", ["max_tokens", "pause_turn", "model_context_window_exceeded"])
def test_other_endings(reason: str) -> None:
    """Other stop reasons end the text without being a refusal."""
    assert evidence(message(stop_reason=reason)).signals == (
        Signal("stop_reason", reason, refuses=False),
    )
    assert evidence(message(stop_reason="end_turn")).signals == ()


@pytest.mark.parametrize(
    ("event", "chunk"),
    [
        (
            {"type": "message_start", "message": message(stop_reason=None)},
            Chunk(None, (), "claude", Usage(13, 4)),
        ),
        (
            {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
            Chunk(None),
        ),
        (
            {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
            Chunk(None, (Delta(reasoning=True),)),
        ),
        (
            {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}},
            Chunk(None, (Delta(non_text=True),)),
        ),
        (
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}},
            Chunk(None, (Delta(text="a"),)),
        ),
        (
            {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "a"}},
            Chunk(None, (Delta(reasoning=True),)),
        ),
        (
            {"type": "content_block_delta", "delta": {"type": "input_json_delta"}},
            Chunk(None),
        ),
        (
            {
                "type": "message_delta",
                "delta": {"stop_reason": "refusal", "stop_details": {"category": "cyber"}},
                "usage": {"output_tokens": 9},
            },
            Chunk(
                None,
                (
                    Delta(
                        signals=(
                            Signal("stop_reason", "refusal", "policy"),
                            Signal("stop_details.category", "cyber", "policy"),
                        ),
                        finished=True,
                    ),
                ),
                usage=Usage(0, 9),
            ),
        ),
        ({"type": "content_block_stop", "index": 0}, Chunk(None)),
        ({"type": "message_stop"}, Chunk(None)),
        ({"type": "ping"}, Chunk(None)),
        ({"type": "error", "error": {"type": "overloaded_error"}}, Chunk(None, opaque=True)),
    ],
)
def test_events(event: dict[str, Any], chunk: Chunk) -> None:
    """Each event is read to what it adds."""
    assert MESSAGES.read_chunk(event, None) == chunk


@pytest.mark.parametrize("payload", [{}, {"type": "error", "error": {}}, {"content": 7}])
def test_unreadable(payload: dict[str, Any]) -> None:
    """A body without content has no choices."""
    assert MESSAGES.read_completion(payload, None).choices == ()

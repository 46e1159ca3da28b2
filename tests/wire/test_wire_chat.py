"""OpenAI chat completions as they come from OpenAI, Azure, LiteLLM, OpenRouter and others."""

from __future__ import annotations

from typing import Any

import pytest

from demur.vocabulary import Chunk, Delta, Evidence, Signal, Usage
from demur.wire import shape_for

CHAT = shape_for("chat")


def whole(message: Any = None, finish_reason: str | None = "stop", **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None} if message is None else message
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m-2025",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message, **choice}],
    }


def chunk(delta: Any, finish_reason: str | None = None, **choice: Any) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "model": "m-2025",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}],
    }


def evidence(payload: dict[str, Any]) -> Evidence:
    (only,) = CHAT.read_completion(payload, None).choices
    return only


def delta(payload: dict[str, Any]) -> Delta:
    (only,) = CHAT.read_chunk(payload, None).deltas
    return only


def test_plain_answer() -> None:
    """Text, model and usage are read; a natural stop is no signal."""
    payload = {**whole({"content": "Hi."}), "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    completion = CHAT.read_completion(payload, payload)
    assert completion.choices == (Evidence("Hi."),)
    assert completion.native is payload
    assert completion.model == "m-2025"
    assert completion.usage == Usage(3, 4)


def test_every_choice_is_read() -> None:
    """n > 1 gives one evidence a choice, and deltas carry their choice's index."""
    payload = whole({"content": "a"})
    payload["choices"].append({"index": 1, "message": {"content": "b"}, "finish_reason": "stop"})
    assert [e.text for e in CHAT.read_completion(payload, None).choices] == ["a", "b"]
    both = chunk({"content": "a"})
    both["choices"].append({"index": 2, "delta": {"content": "b"}})
    assert [(d.index, d.text) for d in CHAT.read_chunk(both, None).deltas] == [(0, "a"), (2, "b")]


def test_refusal_field_is_kept_apart() -> None:
    """The refusal field is not the text, and is no signal: it may hold a good answer."""
    assert evidence(whole({"content": None, "refusal": "No."})) == Evidence(refusal="No.")
    assert delta(chunk({"refusal": "No."})) == Delta(refusal="No.")


def test_parts() -> None:
    """Content may be a list: text joined, refusals apart, thoughts left out, the rest non-text."""
    text = {"type": "text", "text": "a"}
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    refused = {"type": "refusal", "refusal": "no"}
    assert evidence(whole({"content": [text, thought, "b", refused]})) == Evidence("ab", "no")
    assert delta(chunk({"content": [thought]})) == Delta(reasoning=True)
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    assert evidence(whole({"content": [text, image]})) == Evidence("a", non_text=True)


@pytest.mark.parametrize(
    "field",
    [
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
        {"function_call": {"name": "f", "arguments": ""}},
        {"audio": {"id": "a", "transcript": "I can't"}},
        {"images": [{"type": "image_url", "image_url": {"url": "data:"}}]},
    ],
)
def test_non_text_delivery(field: dict[str, Any]) -> None:
    """Tool calls, audio and images are something delivered; empty ones are not."""
    assert evidence(whole({"content": None, **field})).non_text
    assert delta(chunk(field)).non_text
    for empty in (None, [], {}):
        nothing = dict.fromkeys(field, empty)
        assert evidence(whole({"content": "a", **nothing})) == Evidence("a")


@pytest.mark.parametrize(
    "field",
    [
        {"reasoning_content": "I can't say"},
        {"reasoning": "I can't say"},
        {"thinking": "I can't say"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I can't say"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "I can't say"}]},
    ],
)
def test_reasoning_is_never_text(field: dict[str, Any]) -> None:
    """Reasoning, whatever a server calls it, is marked and not judged."""
    assert delta(chunk({"content": None, **field})) == Delta(reasoning=True)
    assert evidence(whole({"content": "Yes.", **field})) == Evidence("Yes.")


def test_think_tags_stay_in_the_text() -> None:
    """Tags inside the text are left to the reader of texts: a chunk may hold half of one."""
    assert evidence(whole({"content": "<think>a</think>b"})).text == "<think>a</think>b"


FILTER = Signal("finish_reason", "content_filter", "filter")


@pytest.mark.parametrize(
    ("finish_reason", "signals"),
    [
        (None, ()),
        ("stop", ()),
        ("STOP", ()),
        ("content_filter", (FILTER,)),
        ("length", (Signal("finish_reason", "length", refuses=False),)),
        ("SAFETY", (Signal("native_finish_reason", "SAFETY", "filter"),)),
        ("never seen", (Signal("finish_reason", "other", refuses=False),)),
    ],
)
def test_finish_reasons(finish_reason: str | None, signals: tuple[Signal, ...]) -> None:
    """A finish reason is a signal unless it is a natural stop, and only known ones refuse."""
    read = evidence(whole({"content": "a"}, finish_reason)).signals
    assert [(s.value, s.kind, s.refuses) for s in read] == [
        (s.value, s.kind, s.refuses) for s in signals
    ]
    last = delta(chunk({}, finish_reason))
    assert last.signals == read
    assert last.finished == (finish_reason is not None)


@pytest.mark.parametrize("value", ["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"])
def test_gemini_refuses(value: str) -> None:
    """Gemini's own reason is read from behind a folded one, and from its OpenAI endpoint."""
    expected = (Signal("native_finish_reason", value, "filter"),)
    extra = {"provider_specific_fields": {"native_finish_reason": value}}
    assert evidence(whole(None, "content_filter", **extra)).signals == expected
    assert evidence(whole(None, f"content_filter: {value}")).signals == expected
    assert evidence(whole(None, "content_filter", native_finish_reason=value)).signals == expected


@pytest.mark.parametrize("value", ["RECITATION", "LANGUAGE", "OTHER"])
def test_gemini_ends_without_refusing(value: str) -> None:
    """LiteLLM calls these content_filter too; where it keeps the native token they are none."""
    extra = {"provider_specific_fields": {"native_finish_reason": value}}
    (signal,) = evidence(whole(None, "content_filter", **extra)).signals
    assert (signal.value, signal.refuses) == (value, False)


def test_unknown_native_reason_leaves_the_folded_one() -> None:
    """A native token nobody knows cannot take a filter's word back."""
    assert evidence(whole(None, "content_filter", native_finish_reason="x")).signals == (FILTER,)
    assert evidence(whole({"content": "a"}, "stop", native_finish_reason="completed")).signals == ()


def test_gemini_blocked_prompt() -> None:
    """A block reason without any candidate is evidence, not an unreadable response."""
    feedback = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "choices": []}
    signal = Signal("promptFeedback.blockReason", "PROHIBITED_CONTENT", "filter")
    assert evidence(feedback) == Evidence(signals=(signal,))
    assert delta(feedback) == Delta(signals=(signal,))


def test_anthropic_behind_litellm() -> None:
    """The stop reason and its category survive in the message's or delta's provider fields."""
    extra = {
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": "cyber", "explanation": "Some words."},
    }
    policy = (
        Signal("stop_reason", "refusal", "policy"),
        Signal("stop_details.category", "cyber", "policy"),
    )
    message = {"content": "", "provider_specific_fields": extra}
    assert evidence(whole(message, "content_filter")).signals == (FILTER, *policy)
    last = {"content": None, "provider_specific_fields": extra}
    assert delta(chunk(last, "content_filter")).signals == (FILTER, *policy)


@pytest.mark.parametrize("stop_reason", ["\nHuman:", "END", 128009, None])
def test_vllm_stop_reason_is_no_signal(stop_reason: object) -> None:
    """vLLM's stop_reason is the caller's stop string or a token number, not a refusal."""
    payload = whole({"content": "a"}, "stop", stop_reason=stop_reason)
    assert evidence(payload) == Evidence("a")


def test_azure_filter_results() -> None:
    """Only what was filtered is a signal; a severity, a detection or an error is none."""
    results = {
        "hate": {"filtered": False, "severity": "low"},
        "violence": {"filtered": True, "severity": "high"},
        "protected_material_code": {"filtered": False, "detected": True},
        "error": {"code": "content_filter_error", "message": "The contents are not filtered"},
    }
    payload = whole({"content": "a"}, "stop", content_filter_results=results)
    assert evidence(payload).signals == (Signal("content_filter_results", "violence", "filter"),)
    assert len(delta(chunk({}, None, content_filter_results=results)).signals) == 1
    behind = whole(
        {"content": "a"}, "stop", provider_specific_fields={"content_filter_results": results}
    )
    assert evidence(behind) == evidence(payload)


def test_bedrock_guardrail() -> None:
    """A guardrail that only masked words, by its trace, takes the filter's word back."""
    blocked = {"guardrail": {"outputAssessments": {"g": [{"x": [{"action": "BLOCKED"}]}]}}}
    masked = {"guardrail": {"outputAssessments": {"g": [{"x": [{"action": "ANONYMIZED"}]}]}}}
    message = {"content": "Call {NAME}."}
    assert evidence({**whole(message, "content_filter"), "trace": blocked}).signals == (FILTER,)
    pardon = Signal("trace.guardrail", "ANONYMIZED", refuses=False)
    assert pardon in evidence({**whole(message, "content_filter"), "trace": masked}).signals
    streamed = {**chunk({}), "provider_specific_fields": {"trace": masked}}
    assert delta(streamed).signals == (pardon,)


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""},
        {"object": "chat.completion.chunk", "choices": None},
        {"something": "new"},
    ],
)
def test_chunks_without_choices(payload: dict[str, Any]) -> None:
    """Usage-only chunks and Azure's empty first one say nothing and are not opaque."""
    read = CHAT.read_chunk(payload, None)
    assert (read.deltas, read.model, read.opaque) == ((), None, False)
    assert read.usage == (Usage(1, 2) if "usage" in payload else None)


@pytest.mark.parametrize("choices", [None, [], "x", [None], [{}], [{"message": 7}], [{"text": ""}]])
def test_unreadable_completions_have_no_choices(choices: object) -> None:
    """A response without a message cannot be judged, so it is not taken for an empty answer."""
    assert CHAT.read_completion({"choices": choices}, None).choices == ()


@pytest.mark.parametrize("choices", ["x", 7, [None], [{"delta": "x"}], [{"delta": []}]])
def test_unreadable_chunks_are_opaque(choices: object) -> None:
    """A chunk out of shape ends the judging."""
    assert CHAT.read_chunk({"choices": choices}, "n") == Chunk("n", opaque=True)


def test_servers_that_stream_whole_messages() -> None:
    """A message in the delta's place is read as one; beside a delta it only repeats."""
    for choice in ({}, {"delta": None}):
        assert delta({"choices": [{**choice, "message": {"content": "a"}}]}).text == "a"
    assert (
        delta({"choices": [{"message": {"content": "ab"}, "delta": {"content": "b"}}]}).text == "b"
    )
    assert delta({"choices": [{"index": 0, "finish_reason": "stop"}]}) == Delta(finished=True)


def test_content_of_an_unknown_type_is_a_delivery() -> None:
    """What is there but cannot be read is never taken for an empty answer."""
    assert evidence(whole({"content": {"answer": 42}})) == Evidence(non_text=True)

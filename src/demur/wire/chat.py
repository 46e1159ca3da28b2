"""OpenAI chat completions, and what Azure, LiteLLM and other servers of that shape add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..detection.signals import anthropic_stop, ending, filtered, folded_ending, masked
from ..vocabulary import Chunk, Completion, Delta, Evidence, Signal, Usage
from .content import Content, joined, read_content
from .fields import count, mapping, name, sequence, string
from .fields import usage as tokens

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
_NON_TEXT = ("tool_calls", "function_call", "audio", "images")


def read_completion(payload: object, native: Any = None) -> Completion:
    """A whole response; without choices where it cannot be read."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Completion((), native)
    choices = sequence(payload.get("choices"))
    readable = all(isinstance(mapping(choice).get("message"), Mapping) for choice in choices)
    shared = _shared_signals(payload)
    evidence = tuple(_evidence(choice, shared) for choice in choices) if readable else ()
    if not choices and shared:
        evidence = (Evidence(signals=shared),)
    return Completion(evidence, native, name(payload.get("model")), _usage(payload))


def read_chunk(payload: object, native: Any = None) -> Chunk:
    """One chunk of a stream: any number of choices, also none (usage, Azure's prompt filter)."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return Chunk(native, opaque=True)
    choices = payload.get("choices")
    if not (choices is None or isinstance(choices, list | tuple)):
        return Chunk(native, opaque=True)
    deltas: list[Delta] = []
    shared = _shared_signals(payload)
    for position, choice in enumerate(choices or ()):
        delta = _delta(choice, position, shared)
        if delta is None:
            return Chunk(native, opaque=True)
        deltas.append(delta)
    if not deltas and shared:
        deltas.append(Delta(signals=shared))
    return Chunk(native, tuple(deltas), name(payload.get("model")), _usage(payload))


def _evidence(choice: Mapping[str, Any], shared: tuple[Signal, ...]) -> Evidence:
    message = choice["message"]
    content = _message_content(message)
    return Evidence(
        content.text, content.refusal, shared + tuple(_signals(choice, message)), content.non_text
    )


def _delta(choice: object, position: int, shared: tuple[Signal, ...]) -> Delta | None:
    if not isinstance(choice, Mapping):
        return None
    # Some servers put a whole message where the delta belongs, some add it to the last delta.
    message = choice.get("delta")
    if message is None:
        message = choice.get("message")
    if message is None:
        message = {}
    if not isinstance(message, Mapping):
        return None
    index = choice.get("index")
    content = _message_content(message)
    return Delta(
        index=position if index is None else count(index),
        text=content.text,
        refusal=content.refusal,
        signals=shared + tuple(_signals(choice, message)),
        non_text=content.non_text,
        reasoning=content.reasoning,
        finished=bool(choice.get("finish_reason")),
    )


def _message_content(message: Mapping[str, Any]) -> Content:
    beside = Content(
        refusal=string(message.get("refusal")),
        non_text=any(message.get(field) for field in _NON_TEXT),
        reasoning=any(message.get(field) for field in _REASONING),
    )
    return joined((read_content(message.get("content")), beside))


def _signals(choice: Mapping[str, Any], message: Mapping[str, Any]) -> Iterator[Signal]:
    extra = {
        **mapping(choice.get("provider_specific_fields")),
        **mapping(message.get("provider_specific_fields")),
    }
    native = extra.get("native_finish_reason", choice.get("native_finish_reason"))
    yield from folded_ending("finish_reason", choice.get("finish_reason"), native)
    # Only refusals: vLLM's stop_reason is the caller's own stop string, or a token's number.
    yield from (signal for signal in anthropic_stop(extra) if signal.refuses)
    yield from filtered(choice.get("content_filter_results") or extra.get("content_filter_results"))


def _shared_signals(payload: Mapping[str, Any]) -> tuple[Signal, ...]:
    """What was said about the response as a whole: Gemini's block reason, Bedrock's guardrail."""
    feedback = mapping(payload.get("promptFeedback") or payload.get("prompt_feedback"))
    reason = feedback.get("blockReason", feedback.get("block_reason"))
    extra = mapping(payload.get("provider_specific_fields"))
    return ending("promptFeedback.blockReason", reason) + masked(
        payload.get("trace") or extra.get("trace")
    )


def _usage(payload: Mapping[str, Any]) -> Usage | None:
    value = payload.get("usage")
    return tokens(value, read=("prompt_tokens",), written=("completion_tokens",)) or tokens(
        value, read=("input_tokens",), written=("output_tokens",)
    )

"""LiteLLM's own objects, dumped, give the signals that its providers sent."""

from __future__ import annotations

import os
from typing import Any

import pytest

from demur.vocabulary import Signal
from demur.wire import shape_for

CHAT = shape_for("chat")
pytestmark = pytest.mark.filterwarnings("ignore:Item .* using the `ReadOnly` qualifier:UserWarning")


@pytest.fixture(scope="module")
def types() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return pytest.importorskip("litellm.types.utils")


@pytest.mark.parametrize(
    ("native", "signal"),
    [
        ("SAFETY", Signal("native_finish_reason", "SAFETY", "filter")),
        ("RECITATION", Signal("native_finish_reason", "RECITATION", refuses=False)),
        ("guardrail_intervened", Signal("native_finish_reason", "guardrail_intervened", "filter")),
        ("refusal", Signal("native_finish_reason", "refusal", "policy")),
        ("content_filter", Signal("finish_reason", "content_filter", "filter")),
        ("length", Signal("finish_reason", "length", refuses=False)),
    ],
)
def test_choices(types: Any, native: str, signal: Signal) -> None:
    """A native finish reason survives the folding of LiteLLM's Choices."""
    choice = types.Choices(finish_reason=native, message=types.Message(content=None))
    payload = types.ModelResponse(choices=[choice]).model_dump()
    (evidence,) = CHAT.read_completion(payload, None).choices
    assert evidence.signals == (signal,)


def test_stream(types: Any) -> None:
    """In a stream Anthropic's stop reason survives beside the folded finish reason."""
    delta = types.Delta(content=None, provider_specific_fields={"stop_reason": "refusal"})
    choice = types.StreamingChoices(finish_reason="refusal", delta=delta)
    payload = types.ModelResponseStream(choices=[choice]).model_dump()
    (read,) = CHAT.read_chunk(payload, None).deltas
    assert Signal("stop_reason", "refusal", "policy") in read.signals
    assert read.finished


def test_reasoning(types: Any) -> None:
    """A delta of reasoning, and the empty first one, hold no text."""
    for delta, reasoning in ((types.Delta(reasoning="hm"), True), (types.Delta(content=""), False)):
        payload = types.ModelResponseStream(
            choices=[types.StreamingChoices(delta=delta)]
        ).model_dump()
        (read,) = CHAT.read_chunk(payload, None).deltas
        assert (read.text, read.reasoning) == ("", reasoning)

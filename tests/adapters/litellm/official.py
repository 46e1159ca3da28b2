"""The three surfaces of a proxy as the official SDKs see them: what they parse, and the headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy_stage import MASTER_KEY, Proxy

ASK: Any = [{"role": "user", "content": "What is the capital of Portugal?"}]

Answer = tuple[str, Mapping[str, str]]
"""Text and headers."""


class FailedResponseError(Exception):
    """``response.failed``, which the SDK hands over like every event."""


@dataclass(frozen=True)
class Sdk:
    """One surface, asked whole or streamed by the SDK whose surface it is.

    The SDKs' own stream helpers add the events up to a response: an event out of order fails there.
    """

    surface: str
    whole: Callable[[Proxy, str, str], Answer]
    streamed: Callable[[Proxy, str, str], Answer]

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What says that the server said no: an exception, or a Responses stream's last event."""
        import anthropic
        import openai

        sdk = anthropic if self.surface == "messages" else openai
        return sdk.APIError, FailedResponseError

    def ask(self, proxy: Proxy, model: str, *, stream: bool, key: str = MASTER_KEY) -> Answer:
        return (self.streamed if stream else self.whole)(proxy, model, key)


def _openai(proxy: Proxy, key: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0, timeout=30)


def leave(proxy: Proxy, model: str, *, stream: bool, seconds: float) -> None:
    """Ask on chat as a caller who waits no longer than ``seconds`` for the next that comes."""
    import openai
    import pytest

    with _openai(proxy, MASTER_KEY) as client:
        asking = client.with_options(timeout=seconds)
        with pytest.raises(openai.APITimeoutError):
            for _ in asking.chat.completions.create(model=model, messages=ASK, stream=stream):
                pass


def _anthropic(proxy: Proxy, key: str) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=proxy.url, api_key=key, max_retries=0, timeout=30)


def _chat(proxy: Proxy, model: str, key: str) -> Answer:
    with _openai(proxy, key) as client:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=ASK)
        response = raw.parse()
    assert response.object == "chat.completion"
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.total_tokens > 0
    return response.choices[0].message.content, raw.headers


def _chat_streamed(proxy: Proxy, model: str, key: str) -> Answer:
    with (
        _openai(proxy, key) as client,
        client.chat.completions.stream(model=model, messages=ASK) as stream,
    ):
        events = list(stream)
        text = "".join(event.delta for event in events if event.type == "content.delta")
        choice = stream.get_final_completion().choices[0]
        assert choice.finish_reason == "stop"
        assert choice.message.content == text
        assert {e.chunk.object for e in events if e.type == "chunk"} == {"chat.completion.chunk"}
        return text, stream._response.headers


def _messages(proxy: Proxy, model: str, key: str) -> Answer:
    with _anthropic(proxy, key) as client:
        raw = client.messages.with_raw_response.create(model=model, max_tokens=99, messages=ASK)
        message = raw.parse()
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.usage.output_tokens > 0
    return "".join(block.text for block in message.content), raw.headers


def _messages_streamed(proxy: Proxy, model: str, key: str) -> Answer:
    with (
        _anthropic(proxy, key) as client,
        client.messages.stream(model=model, max_tokens=99, messages=ASK) as stream,
    ):
        events = list(stream)
        kinds = [event.type for event in events]
        assert kinds.count("message_start") == kinds.count("message_stop") == 1
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        starts = [e.index for e in events if e.type == "content_block_start"]
        assert starts == list(range(len(starts)))
        message = stream.get_final_message()
        assert (message.role, message.stop_reason) == ("assistant", "end_turn")
        text = "".join(block.text for block in message.content)
        assert text == "".join(e.text for e in events if e.type == "text")
        return text, stream.response.headers


def _responses(proxy: Proxy, model: str, key: str) -> Answer:
    with _openai(proxy, key) as client:
        raw = client.responses.with_raw_response.create(model=model, input="Which capital?")
        response = raw.parse()
    assert (response.object, response.status) == ("response", "completed")
    assert response.usage.total_tokens > 0
    return response.output_text, raw.headers


def _responses_streamed(proxy: Proxy, model: str, key: str) -> Answer:
    with (
        _openai(proxy, key) as client,
        client.responses.stream(model=model, input="Which capital?") as stream,
    ):
        events = list(stream)
        kinds = [event.type for event in events]
        assert kinds[0] == "response.created"
        if kinds[-1] == "response.failed":
            raise FailedResponseError(events[-1].response.error.message)
        assert kinds[-1] == "response.completed"
        assert kinds.count("response.created") == kinds.count("response.completed") == 1
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text
        return text, stream._raw_stream.response.headers


SDKS = (
    Sdk("chat", _chat, _chat_streamed),
    Sdk("messages", _messages, _messages_streamed),
    Sdk("responses", _responses, _responses_streamed),
)

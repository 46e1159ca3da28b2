"""``/v1/messages`` and ``/v1/responses`` through the proxy, each in its own wire shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.request import Request, urlopen

import pytest
from proxy_scene import ANSWER, REFUSAL, SECOND
from proxy_stage import LIMITED_KEY, MASTER_KEY, Proxy

from demur.testing import Upstream
from demur.wire import SSEReader

SURFACES = ("messages", "responses")


def post(
    proxy: Proxy, surface: str, model: str, *, stream: bool, key: str = MASTER_KEY
) -> tuple[bytes, Mapping[str, str]]:
    asked: dict[str, Any] = {"model": model, "stream": stream}
    if surface == "messages":
        asked |= {"max_tokens": 100, "messages": [{"role": "user", "content": "Which capital?"}]}
    else:
        asked["input"] = "Which capital?"
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = Request(f"{proxy.url}/v1/{surface}", json.dumps(asked).encode(), headers)
    with urlopen(request, timeout=20) as response:
        return response.read(), {name.lower(): value for name, value in response.headers.items()}


def text_of(surface: str, body: Mapping[str, Any]) -> str:
    if surface == "messages":
        assert (body["type"], body["role"]) == ("message", "assistant")
        return "".join(block["text"] for block in body["content"])
    assert body["object"] == "response"
    return "".join(part["text"] for item in body["output"] for part in item["content"])


def streamed_text(surface: str, raw: bytes) -> str:
    """The text of a stream, having checked that its events come in a valid order."""
    reader = SSEReader()
    events = [json.loads(data) for _, data in reader.feed(raw) + reader.finish() if data[0] == "{"]
    kinds = [event["type"] for event in events]
    if surface == "messages":
        assert kinds.count("message_start") == kinds.count("message_stop") == 1
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        starts = [e["index"] for e in events if e["type"] == "content_block_start"]
        assert starts == list(range(len(starts)))
        deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
        return "".join(delta["text"] for delta in deltas)
    assert kinds[0] == "response.created"
    assert kinds.count("response.created") == kinds.count("response.completed") == 1
    numbers = [e["sequence_number"] for e in events if "sequence_number" in e]
    assert numbers == sorted(set(numbers))
    whole = [e["response"] for e in events if e["type"] == "response.completed"]
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text_of(surface, whole[0]) == text
    return text


def ask(
    proxy: Proxy, surface: str, model: str, *, stream: bool, **more: Any
) -> tuple[str, Mapping[str, str]]:
    raw, headers = post(proxy, surface, model, stream=stream, **more)
    if stream:
        return streamed_text(surface, raw), headers
    return text_of(surface, json.loads(raw)), headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
def test_refusal_is_replaced(proxy: Proxy, surface: str, stream: bool) -> None:
    """A refusal is replaced by the fallback's answer, and the headers say so."""
    text, headers = ask(proxy, surface, "primary", stream=stream)
    assert text == SECOND
    assert headers["x-demur-served-model"] == "second"
    assert headers["x-demur-attempts"] == "2"
    assert headers["x-litellm-attempted-fallbacks"] == "1"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("model", ["both", "only-broken"])
def test_refusal_is_kept(proxy: Proxy, model: str, surface: str, stream: bool) -> None:
    """If the fallback refuses or errs, the original refusal comes back in its own shape."""
    text, headers = ask(proxy, surface, model, stream=stream)
    assert text == REFUSAL
    assert (headers["x-demur-label"], headers["x-demur-served-model"]) == ("refusal", model)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
def test_normal_answer(proxy: Proxy, surface: str, stream: bool) -> None:
    """A normal answer passes, judged."""
    text, headers = ask(proxy, surface, "helpful", stream=stream)
    assert text == ANSWER
    assert headers["x-demur-label"] == "normal"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
def test_key_without_the_right(
    proxy: Proxy, upstream: Upstream, surface: str, stream: bool
) -> None:
    """A key without the right to the fallback model gets the refusal."""
    before = len(upstream.calls("m-second"))
    text, _ = ask(proxy, surface, "primary", stream=stream, key=LIMITED_KEY)
    assert text == REFUSAL
    assert len(upstream.calls("m-second")) == before


@pytest.mark.parametrize("model", ["slow", "translated"])
@pytest.mark.parametrize("surface", SURFACES)
def test_refused_stream_is_cut(proxy: Proxy, upstream: Upstream, surface: str, model: str) -> None:
    """The refused upstream's connection is closed early, also where LiteLLM translates."""
    text, _ = ask(proxy, surface, model, stream=True)
    assert text == SECOND
    call = upstream.calls("m-refusing-slowly")[-1]
    assert call.finished.wait(5)
    assert call.cut


@pytest.mark.parametrize("surface", SURFACES)
def test_translated_response(proxy: Proxy, surface: str) -> None:
    """A provider's chat completion behind another surface is judged and replaced like its own."""
    text, headers = ask(proxy, surface, "translated", stream=False)
    assert text == SECOND
    assert headers["x-demur-attempts"] == "2"

"""The official OpenAI and Anthropic SDKs, asking a proxy whose models refuse, help, or dawdle."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from official import ASK, SDKS, Sdk
from proxy_scene import ANSWER, REFUSAL, SECOND
from proxy_stage import LIMITED_KEY, MASTER_KEY, SPENT_KEY, TEAM_KEY, Proxy

from demur.testing import Upstream

pytest.importorskip("openai")
pytest.importorskip("anthropic")

surfaces = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def shown(headers: Any) -> dict[str, str]:
    """demur's headers."""
    found = {name.lower(): value for name, value in headers.items()}
    return {n.removeprefix("x-demur-"): v for n, v in found.items() if n.startswith("x-demur-")}


@surfaces
@streams
@pytest.mark.parametrize("model", ["primary", "slow", "translated"])
def test_refusal_is_replaced(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """The SDK gets the fallback's answer, whole and valid, and headers that say so."""
    text, headers = sdk.ask(proxy, model, stream=stream)
    assert text == SECOND
    told = shown(headers)
    assert float(told.pop("score")) < 0.5
    assert told == {
        "label": "normal",
        "source": "embedded",
        "rule": f"rule-{model}",
        "attempts": "2",
        "served-model": "second",
    }
    assert headers["x-litellm-attempted-fallbacks"] == "1"


@surfaces
@streams
def test_normal_answer(proxy: Proxy, sdk: Sdk, stream: bool) -> None:
    """A helpful model's answer passes, judged."""
    text, headers = sdk.ask(proxy, "helpful", stream=stream)
    assert text == ANSWER
    told = shown(headers)
    assert (told["label"], told["attempts"], told["served-model"]) == ("normal", "1", "helpful")


@surfaces
@streams
@pytest.mark.parametrize("model", ["both", "only-broken"])
def test_everybody_refuses(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """If the fallback refuses too, or fails, the original refusal is what the SDK parses."""
    text, headers = sdk.ask(proxy, model, stream=stream)
    assert text == REFUSAL
    told = shown(headers)
    assert (told["label"], told["attempts"], told["served-model"]) == ("refusal", "2", model)


@surfaces
@streams
def test_exhausted_error(proxy: Proxy, sdk: Sdk, stream: bool) -> None:
    """``exhausted: error`` is an error of the SDK's, with models and labels but no text."""
    with pytest.raises(sdk.errors, match="refusal") as caught:
        sdk.ask(proxy, "error", stream=stream)
    assert "help with that" not in str(caught.value)


@surfaces
@pytest.mark.parametrize("model", ["slow", "translated"])
def test_refused_stream_is_cut(proxy: Proxy, upstream: Upstream, sdk: Sdk, model: str) -> None:
    """The refused upstream's connection is closed while it still has much to say."""
    sdk.ask(proxy, model, stream=True)
    call = upstream.calls("m-refusing-slowly")[-1]
    assert call.finished.wait(5)
    assert call.cut


@surfaces
@streams
@pytest.mark.parametrize("key", [LIMITED_KEY, TEAM_KEY, SPENT_KEY])
def test_no_right_to_the_fallback(
    proxy: Proxy, upstream: Upstream, sdk: Sdk, stream: bool, key: str
) -> None:
    """The key or its team may not use the fallback, or the budget is spent: the refusal stays."""
    before = len(upstream.calls("m-second"))
    text, headers = sdk.ask(proxy, "primary", stream=stream, key=key)
    assert text == REFUSAL
    assert shown(headers)["attempts"] == "1"
    assert len(upstream.calls("m-second")) == before


REQUESTS = {
    "chat/completions": {"messages": ASK},
    "messages": {"messages": ASK, "max_tokens": 100},
    "responses": {"input": "How?"},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("model", ["primary", "slow", "translated"])
def test_nothing_follows_the_end_of_a_replaced_stream(proxy: Proxy, path: str, model: str) -> None:
    """Also no error, which an SDK that has seen the last event no longer reads."""
    before = len(proxy.log(10**9))
    answer = httpx.post(
        f"{proxy.url}/v1/{path}",
        json={"model": model, "stream": True, **REQUESTS[path]},
        headers={"authorization": f"Bearer {MASTER_KEY}"},
        timeout=30,
    )
    said = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    assert said
    assert not any(event.get("error") for event in map(json.loads, said))
    assert "Traceback" not in proxy.log(10**9)[before:]

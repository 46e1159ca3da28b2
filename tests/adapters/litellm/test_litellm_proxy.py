"""A real LiteLLM proxy with the guardrail, in front of a real upstream, asked by the OpenAI SDK."""

from __future__ import annotations

import time
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL, SCRIPT, SECOND
from proxy_stage import (
    UNWILLING_KEY,
    Proxy,
)

from demur.testing import Upstream

ASK: Any = [{"role": "user", "content": "What is the capital of Portugal?"}]


def ask(client: Any, model: str, **more: Any) -> tuple[str, Any]:
    """Text and headers of a whole response."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ASK, **more)
    return raw.parse().choices[0].message.content, raw.headers


def stream(client: Any, model: str, **more: Any) -> tuple[list[str], Any]:
    """The texts of a stream's chunks, and its headers."""
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=ASK, stream=True, **more
    )
    chunks = list(raw.parse())
    return [c.choices[0].delta.content or "" for c in chunks if c.choices], raw.headers


def test_refusal_is_replaced(client: Any, upstream: Upstream) -> None:
    """A refusing model behind the proxy: the caller gets the fallback's text and can see why."""
    before = len(upstream.calls("m-refusing"))
    text, headers = ask(client, "primary")
    assert text == SECOND
    assert headers["x-demur-label"] == "normal"
    assert headers["x-demur-source"] == "embedded"
    assert 0.0 <= float(headers["x-demur-score"]) < 0.5
    assert headers["x-demur-served-model"] == "second"
    assert headers["x-demur-attempts"] == "2"
    assert headers["x-demur-rule"] == "rule-primary"
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert len(upstream.calls("m-refusing")) == before + 1


def test_refusal_is_replaced_in_a_stream(client: Any) -> None:
    """Streamed, nothing of the refused attempt is seen, and headers tell of the fallback."""
    texts, headers = stream(client, "primary")
    assert "".join(texts) == SECOND
    assert headers["x-demur-label"] == "normal"
    assert headers["x-demur-served-model"] == "second"
    assert headers["x-demur-attempts"] == "2"
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert headers["x-litellm-model-group"] == "second"


def test_everybody_refuses(client: Any, proxy: Proxy, upstream: Upstream) -> None:
    """The fallback refuses too: the original refusal comes back, as without demur."""
    text, headers = ask(client, "both")
    assert text == REFUSAL
    assert headers["x-demur-label"] == "refusal"
    assert headers["x-demur-served-model"] == "both"
    assert headers["x-demur-attempts"] == "2"
    texts, headers = stream(client, "both")
    assert "".join(texts) == REFUSAL
    assert headers["x-demur-served-model"] == "both"


def test_chain_of_fallbacks(client: Any) -> None:
    """The chain is followed past a fallback that refuses too."""
    text, headers = ask(client, "hops")
    assert (text, headers["x-demur-attempts"]) == (SECOND, "3")
    texts, headers = stream(client, "hops")
    assert ("".join(texts), headers["x-demur-attempts"]) == (SECOND, "3")


@pytest.mark.parametrize("model", ["after-broken", "only-broken"])
def test_failing_fallback(client: Any, model: str) -> None:
    """A fallback that errs is passed over; if none is left, the caller keeps the refusal."""
    expected = SECOND if model == "after-broken" else REFUSAL
    assert ask(client, model)[0] == expected
    assert "".join(stream(client, model)[0]) == expected


def test_provider_policy_errors(client: Any, upstream: Upstream) -> None:
    """A provider's own policy error is the caller's, unless the policy has it rerouted."""
    import openai

    before = len(upstream.calls("m-second"))
    with pytest.raises(openai.BadRequestError, match="content_policy_violation"):
        ask(client, "forbidden")
    assert len(upstream.calls("m-second")) == before
    assert ask(client, "rerouted")[0] == SECOND


def test_exhausted_last(client: Any) -> None:
    """``exhausted: last`` serves the last refusal instead of the first."""
    assert ask(client, "last")[0] == "I'm sorry, I can't do that either."
    assert "".join(stream(client, "last")[0]) == "I'm sorry, I can't do that either."


def test_exhausted_error(client: Any) -> None:
    """``exhausted: error`` fails the request, with models and labels but no text."""
    import openai

    for ask_it in (ask, stream):
        with pytest.raises(openai.BadRequestError) as caught:
            ask_it(client, "error")
        assert "refusal" in str(caught.value)
        assert "help with that" not in str(caught.value)


def test_patch(client: Any, upstream: Upstream) -> None:
    """A fallback's patch reaches the fallback, and only it."""
    for ask_it in (ask, stream):
        ask_it(client, "patched", max_tokens=77)
        first, second = upstream.calls("m-refusing")[-1], upstream.calls("m-second")[-1]
        assert "temperature" not in first.body
        assert second.body["temperature"] == 0.25
        assert second.body["max_tokens"] == 77
        assert second.body["messages"] == ASK


def test_key_that_wants_none(proxy: Proxy) -> None:
    """A key whose owner has turned guardrails off gets what it got without demur."""
    from openai import OpenAI

    with OpenAI(base_url=f"{proxy.url}/v1", api_key=UNWILLING_KEY, max_retries=0) as client:
        for ask_it in (ask, stream):
            text, headers = ask_it(client, "primary")
            assert "".join(text) == REFUSAL
            assert "x-demur-label" not in headers


def test_refused_stream_is_cut(client: Any, upstream: Upstream) -> None:
    """The refused upstream's connection is closed while it still has much to say."""
    texts, _ = stream(client, "slow")
    assert "".join(texts) == SECOND
    assert upstream.wait_for_cut("m-refusing-slowly")
    assert upstream.calls("m-refusing-slowly")[-1].chunks_sent < 30


def test_client_that_leaves(client: Any, upstream: Upstream) -> None:
    """A client that closes its stream early cuts the upstream's, as without demur."""
    with client.chat.completions.create(model="talkative", messages=ASK, stream=True) as items:
        texts = [next(items).choices[0].delta.content for _ in range(3)]
    assert ANSWER.startswith("".join(text or "" for text in texts))
    assert upstream.wait_for_cut("m-talkative")


def test_normal_stream_keeps_its_chunks(client: Any) -> None:
    """A normal answer arrives in the upstream's own pieces."""
    texts, headers = stream(client, "helpful")
    assert tuple(t for t in texts if t) == SCRIPT["m-helpful"].chunks
    assert headers["x-demur-label"] == "normal"
    assert headers["x-demur-attempts"] == "1"


def test_normal_answer(client: Any, proxy: Proxy) -> None:
    """A normal answer is passed on, judged, logged once and not tagged."""
    text, headers = ask(client, "helpful")
    assert text == ANSWER
    assert headers["x-demur-label"] == "normal"
    (row,) = proxy.records(headers["x-litellm-call-id"], 1)
    assert (row["status"], row["model_group"]) == ("success", "helpful")
    assert not _tags(row)


def test_tool_calls_pass(client: Any, upstream: Upstream) -> None:
    """A response that calls a tool is delivered as it is, whole and streamed."""
    whole = client.chat.completions.create(model="tools", messages=ASK)
    assert whole.choices[0].message.tool_calls[0].function.name == "look_up"
    items = list(client.chat.completions.create(model="tools", messages=ASK, stream=True))
    calls = [c.choices[0].delta.tool_calls for c in items if c.choices]
    assert [c[0].function.name for c in calls if c and c[0].function.name] == ["look_up"]


def test_shadow_changes_nothing(client: Any, upstream: Upstream) -> None:
    """In shadow mode the refusal is served and the fallback never called."""
    before = len(upstream.calls("m-second"))
    text, headers = ask(client, "shadowed")
    assert (text, headers["x-demur-label"]) == (REFUSAL, "refusal")
    assert "".join(stream(client, "shadowed")[0]) == REFUSAL
    assert len(upstream.calls("m-second")) == before


def test_no_retries_and_no_cool_down(client: Any, upstream: Upstream) -> None:
    """A model that refuses is called once a request and stays in use."""
    before = len(upstream.calls("m-refusing"))
    for _ in range(6):
        assert ask(client, "primary")[0] == SECOND
    assert len(upstream.calls("m-refusing")) == before + 6


def test_opting_out(client: Any) -> None:
    """``metadata: {demur: off}`` and ``disable_fallbacks`` keep a request from being retried."""
    text, headers = ask(client, "primary", extra_body={"metadata": {"demur": "off"}})
    assert text == REFUSAL
    assert "x-demur-label" not in headers
    text, headers = ask(client, "primary", extra_body={"disable_fallbacks": True})
    assert (text, headers["x-demur-label"]) == (REFUSAL, "refusal")


@pytest.mark.parametrize("model", ["raising", "hanging"])
def test_failing_detector(moody: Proxy, model: str) -> None:
    """A detector that raises or hangs: the original response comes back in bounded time."""
    from openai import OpenAI

    with OpenAI(base_url=f"{moody.url}/v1", api_key="sk-any", max_retries=0) as client:
        start = time.monotonic()
        text, _ = ask(client, model)
        assert text.endswith("I'm sorry, but I can't help with that.")
        texts, _ = stream(client, model)
        assert "".join(texts) == text
        assert time.monotonic() - start < 5.0
        assert ask(client, "primary")[0] == SECOND


def test_cached_responses(moody: Proxy, upstream: Upstream) -> None:
    """What LiteLLM's cache answers passes no deployment hook: it is judged, and never lost."""
    from openai import OpenAI

    with OpenAI(base_url=f"{moody.url}/v1", api_key="sk-any", max_retries=0) as client:
        served = {"helpful": ANSWER, "hops": SECOND, "both": REFUSAL}
        for model, expected in served.items():
            assert ask(client, model)[0] == expected
            before = {name: len(upstream.calls(name)) for name in ("m-helpful", "m-second")}
            text, headers = ask(client, model)
            assert text == expected
            assert headers["x-demur-label"] == ("refusal" if model == "both" else "normal")
            assert {name: len(upstream.calls(name)) for name in before} == before


def test_no_text_in_the_log(proxies: dict[str, Proxy], client: Any) -> None:
    """Neither prompts nor responses are written to the proxies' logs."""
    ask(client, "both")
    for proxy in proxies.values():
        log = proxy.log(10_000_000)
        assert "Lisbon" not in log
        assert "help with that" not in log


def _tags(row: dict[str, Any]) -> list[str]:
    return [tag for tag in row["request_tags"] or () if tag.startswith("demur:")]

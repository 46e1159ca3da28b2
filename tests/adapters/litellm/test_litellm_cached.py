"""Fallbacks that LiteLLM's cache answers: no hook sees the Router's attempt then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from proxy_scene import REFUSAL, SECOND
from proxy_stage import Proxy
from test_litellm_operators import CHAT, Answer

from demur.testing import Upstream

MESSAGES = "/v1/messages"
STUBBORN = "I'm sorry, I can't do that either."


def ask(upstream: Upstream, proxy: Proxy, path: str, model: str, prompt: str) -> Answer:
    messages = [{"role": "user", "content": f"What is the capital of {prompt}?"}]
    body: dict[str, Any] = {"model": model, "max_tokens": 64, "messages": messages}
    answer = Answer(upstream, proxy, path, body)
    if path == MESSAGES:
        answer.text = json.loads(answer.body)["content"][0]["text"]
    return answer


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("model", "cached", "called", "text", "served", "attempts"),
    [
        ("primary", "second", ["m-refusing"], SECOND, "second", "2"),
        ("both", "stubborn", ["m-refusing"], REFUSAL, "both", "2"),
        ("last", "stubborn", ["m-refusing"], STUBBORN, "stubborn", "2"),
        ("hops", "stubborn", ["m-refusing", "m-second"], SECOND, "second", "3"),
    ],
)
def test_a_fallback_out_of_the_cache(
    moody: Proxy,
    upstream: Upstream,
    path: str,
    model: str,
    cached: str,
    called: list[str],
    text: str,
    served: str,
    attempts: str,
) -> None:
    """It is the fallback's answer: the record has the refusal before it, and who was served."""
    prompt = f"{path} {model}"
    ask(upstream, moody, path, cached, prompt)
    answer = ask(upstream, moody, path, model, prompt)
    assert (answer.status, answer.called, answer.text) == (200, called, text)
    assert answer.headers["x-demur-served-model"] == served
    assert answer.headers["x-demur-attempts"] == attempts
    assert answer.headers["x-litellm-model-group"] == served


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_kept_refusal_is_not_cached(moody: Proxy, upstream: Upstream, path: str) -> None:
    """What is served in the place of a fallback's refusal is not the fallback's own answer."""
    prompt = f"{path} kept"
    assert ask(upstream, moody, path, "both", prompt).text == REFUSAL
    assert ask(upstream, moody, path, "stubborn", prompt).text == STUBBORN

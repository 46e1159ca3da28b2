"""The verdict at the end of a proxied stream, where a rule asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from official import ASK, SDKS, Sdk
from proxy_scene import SECOND
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Upstream

pytest.importorskip("openai")
pytest.importorskip("anthropic")

GROUPS = {"comment": "m-refusing", "chunk": "m-refusing", "late": "m-late", "second": "m-second"}


def _rule(tell: str, model: str) -> dict[str, Any]:
    return {
        "name": f"rule-{model}",
        "match": {"model": model},
        "actions": ["tag", "log", "retry"],
        "retry": {"fallbacks": ["second"]},
        "stream": {"tell": tell},
    }


POLICY = {
    "version": 1,
    "rules": [
        _rule("comment", "comment"),
        _rule("chunk", "chunk"),
        {**_rule("comment", "late"), "actions": ["tag", "log"], "retry": None},
        {"name": "rest"},
    ],
}


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose streams end with a verdict."""
    skip_without_proxy()
    folder = tmp_path_factory.mktemp("telling")
    settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with Proxy(folder, **settings) as running:
        yield running.wait_until_up()


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
@pytest.mark.parametrize("model", ["comment", "chunk"])
def test_sdks_do_not_mind(proxy: Proxy, sdk: Sdk, model: str) -> None:
    """The official SDKs read the stream as if nothing had been added."""
    text, _ = sdk.ask(proxy, model, stream=True)
    assert text == SECOND


PATHS = {"chat": "chat/completions", "messages": "messages", "responses": "responses"}


@pytest.mark.parametrize("surface", PATHS)
@pytest.mark.parametrize("model", ["comment", "chunk"])
def test_verdict_at_the_end(proxy: Proxy, surface: str, model: str) -> None:
    """One comment, or on chat a last chunk, says what was served, from whom, and why."""
    told = comments(raw_stream(proxy, surface, model))
    if (surface, model) == ("chat", "chunk"):
        assert not told
        told = [chunk_of(proxy)]
    assert len(told) == 1
    assert float(told[0].pop("score")) < 0.5
    assert told[0] == {
        "label": "normal",
        "source": "embedded",
        "rule": f"rule-{model}",
        "attempts": "2",
        "served-model": "second",
    }


def test_verdict_on_the_whole(proxy: Proxy) -> None:
    """A refusal after a normal opening is seen too late for the headers, but not for this."""
    (told,) = comments(raw_stream(proxy, "chat", "late"))
    assert told["label"] == "refusal"


def test_nothing_unless_asked_for(proxy: Proxy) -> None:
    """By default a stream is what it was without demur."""
    assert b"demur" not in raw_stream(proxy, "chat", "second")


def raw_stream(proxy: Proxy, surface: str, model: str) -> bytes:
    asked: dict[str, Any] = {"model": model, "stream": True, "max_tokens": 99, "messages": ASK}
    if surface == "responses":
        asked = {"model": model, "stream": True, "input": "Which capital?"}
    headers = {"content-type": "application/json", "authorization": f"Bearer {MASTER_KEY}"}
    url = f"{proxy.url}/v1/{PATHS[surface]}"
    with urlopen(Request(url, json.dumps(asked).encode(), headers), timeout=20) as response:
        raw: bytes = response.read()
    return raw


def comments(raw: bytes) -> list[dict[str, str]]:
    mark = b": demur "
    return [json.loads(x.removeprefix(mark)) for x in raw.split(b"\n") if x.startswith(mark)]


def chunk_of(proxy: Proxy) -> dict[str, str]:
    """What the OpenAI SDK finds in the last chunk."""
    import openai

    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="chunk", messages=ASK, stream=True))
    assert chunks[-1].choices == []
    assert {chunk.id for chunk in chunks[-2:]} == {chunks[-1].id}
    told: dict[str, str] = chunks[-1].provider_specific_fields["demur"]
    return told

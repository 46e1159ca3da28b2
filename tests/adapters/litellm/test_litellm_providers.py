"""Refusals in the words of Anthropic, Azure and Gemini: what of them is left behind LiteLLM."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from gemini_upstream import Gemini
from official import ASK, SDKS, Sdk
from proxy_scene import REFUSAL, SECOND
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Reply, Upstream

pytest.importorskip("openai")
pytest.importorskip("anthropic")

_AZURE = {
    "hate": {"filtered": True, "severity": "high"},
    "violence": {"filtered": False, "severity": "safe"},
}


def _azure(request: Mapping[str, Any]) -> Reply:
    """A response that Azure's filter has emptied."""
    choice = {"index": 0, "finish_reason": "content_filter", "content_filter_results": _AZURE}
    if not request.get("stream"):
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        choices = [{**choice, "message": {"role": "assistant", "content": None}}]
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "m-azure"}
        return Reply(body=json.dumps({**whole, "choices": choices, "usage": usage}).encode())
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m-azure"}
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    chunks = [
        {**chunk, "choices": [], "prompt_filter_results": []},
        {**chunk, "choices": [role]},
        {**chunk, "choices": [{**choice, "delta": {}}]},
    ]
    events = [b"data: %b\n\n" % json.dumps(each).encode() for each in chunks]
    return Reply(body=(*events, b"data: [DONE]\n\n"))


SCRIPT = {
    "m-claude": Reply("I", stop_details={"type": "refusal", "category": "cyber"}, refusal="can't."),
    "m-claude-slow": Reply(REFUSAL + " Sorry." * 40, delay=0.05),
    "m-claude-helpful": Reply(SECOND),
    "m-azure": _azure,
    "m-refusing": Reply(REFUSAL),
    "m-refusal-field": Reply("", refusal="I'm sorry, I can't assist with that."),
    "m-second": Reply(SECOND),
}
GROUPS = {
    "claude": "anthropic/m-claude",
    "claude-slow": "anthropic/m-claude-slow",
    "claude-helpful": "anthropic/m-claude-helpful",
    "claude-alone": "anthropic/m-refusing",
    # A model that LiteLLM asks by the Responses API, also on chat.
    "bridged-alone": "openai/responses/m-refusing",
    "azure": "azure/m-azure",
    "gemini-blocked": "gemini/g-blocked",
    "gemini-spii": "gemini/g-spii",
    "gemini-reciting": "gemini/g-reciting",
    "refusal-field": "m-refusal-field",
    "openai": "m-refusing",
    "second": "m-second",
}


def _rule(name: str, match: Any, fallback: str) -> dict[str, Any]:
    retry = {"actions": ["tag", "log", "retry"], "retry": {"fallbacks": [fallback]}}
    return {"name": name, "match": {"model": match}, **retry}


POLICY = {
    "version": 1,
    "rules": [
        _rule("other-way", "openai", "claude-helpful"),
        _rule("alone", "*-alone", "openai"),
        {"name": "second", "match": {"model": ["second", "claude-helpful"]}},
        _rule("rest", "*", "second"),
    ],
    "audit": {"path": "audit.jsonl", "content": "full"},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(SCRIPT) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy of models with wire formats of their own, which keeps what it judged."""
    skip_without_proxy()
    folder = tmp_path_factory.mktemp("providers")
    with Gemini() as gemini:
        addresses: dict[str, dict[str, Any]] = {
            "anthropic": {"api_base": upstream.origin},
            "azure": {"api_base": upstream.origin, "api_version": "2024-10-21"},
            "gemini": {"api_base": gemini.origin},
        }
        settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
        with Proxy(folder, addresses=addresses, **settings) as running:
            yield running.wait_until_up()


FILTER = ["finish_reason=content_filter"]
CYBER = ["stop_details.category=cyber"]
REFUSES = ["stop_reason=refusal"]
INCOMPLETE = ["incomplete_details.reason=content_filter"]

# What is known of a refusal in the end; where LiteLLM has lost the reason, its own word for it.
REASONS = {
    ("claude", "chat", False): ("policy", CYBER),
    ("claude", "chat", True): ("policy", CYBER),
    ("claude", "messages", False): ("policy", CYBER),
    ("claude", "messages", True): ("policy", CYBER),
    ("claude", "responses", False): ("policy", CYBER),
    ("claude", "responses", True): ("filter", INCOMPLETE),
    ("azure", "chat", False): ("filter", ["content_filter_results=hate"]),
    ("azure", "chat", True): ("filter", FILTER),
    ("azure", "messages", False): ("filter", ["content_filter_results=hate"]),
    ("azure", "messages", True): ("policy", REFUSES),
    ("gemini-blocked", "chat", False): (
        "filter",
        ["promptFeedback.blockReason=PROHIBITED_CONTENT"],
    ),
    ("gemini-blocked", "chat", True): ("filter", FILTER),
    ("gemini-blocked", "messages", True): ("policy", REFUSES),
    ("gemini-spii", "chat", False): ("filter", ["native_finish_reason=SPII"]),
    ("gemini-spii", "messages", False): ("filter", ["native_finish_reason=SPII"]),
    ("gemini-spii", "responses", False): ("filter", ["native_finish_reason=SPII"]),
    ("gemini-spii", "responses", True): ("filter", INCOMPLETE),
    ("refusal-field", "chat", False): ("policy", []),
    ("refusal-field", "chat", True): ("empty", []),
    ("refusal-field", "responses", True): ("policy", []),
}


@pytest.mark.parametrize("case", REASONS, ids=lambda case: "-".join(map(str, case)))
def test_reasons(proxy: Proxy, case: tuple[str, str, bool]) -> None:
    """A provider's refusal is replaced; the record has its reason, as far as it can be had."""
    model, surface, stream = case
    text, headers = sdk_for(surface).ask(proxy, model, stream=stream)
    assert text == SECOND
    assert headers["x-demur-attempts"] == "2"
    refused = record_of(proxy, headers)["attempts"][0]
    kind, reasons = REASONS[case]
    told = [f"{s['name']}={s['value']}" for s in refused["content"][0]["signals"]]
    assert set(reasons) <= set(told)
    assert refused["verdict"]["kind"] == kind


def test_what_is_no_refusal(proxy: Proxy) -> None:
    """LiteLLM calls Gemini's ``RECITATION`` a filter, too; it is none, and nobody falls back."""
    import openai

    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="gemini-reciting", messages=ASK
        )
    assert raw.parse().choices[0].finish_reason == "content_filter"
    assert (raw.headers["x-demur-attempts"], raw.headers["x-demur-label"]) == ("1", "normal")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
@pytest.mark.parametrize("model", ["claude", "claude-slow", "openai", "gemini-spii"])
def test_a_row_an_attempt(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """From one wire format to another: two rows, each with its tokens and its cost."""
    before = proxy.count_records()
    text, _ = sdk.ask(proxy, model, stream=stream)
    assert text == SECOND
    rows = proxy.records_after(before, 2)
    fallback = "claude-helpful" if model == "openai" else "second"
    assert sorted(row["model_group"] for row in rows) == sorted([model, fallback])
    assert all(row["total_tokens"] and row["response_cost"] for row in rows)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
@pytest.mark.parametrize("model", ["claude-alone", "bridged-alone"])
def test_a_kept_refusal_is_valid(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """If the fallback, which LiteLLM asks in another wire format, refuses too, the original refusal
    is what the SDK parses, and nothing of the response that stood for it is in it."""
    text, headers = sdk.ask(proxy, model, stream=stream)
    assert text == REFUSAL
    assert (headers["x-demur-attempts"], headers["x-demur-served-model"]) == ("2", model)


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
def test_refused_stream_is_cut(proxy: Proxy, upstream: Upstream, sdk: Sdk) -> None:
    """Anthropic's stream is closed while it still has much to say, whoever reads it."""
    sdk.ask(proxy, "claude-slow", stream=True)
    call = upstream.calls("m-claude-slow")[-1]
    assert call.finished.wait(5)
    assert call.cut


def sdk_for(surface: str) -> Sdk:
    return next(sdk for sdk in SDKS if sdk.surface == surface)


def record_of(proxy: Proxy, headers: Mapping[str, str]) -> Any:
    """What the audit keeps of a request; it is written behind the response."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for line in (proxy.folder / "audit.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["id"] == headers["x-litellm-call-id"]:
                return record
        time.sleep(0.05)
    raise TimeoutError("no record of the request")

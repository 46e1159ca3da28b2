"""What the proxy's own log says a request cost: a row an attempt, refused ones among them."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

import pytest
from official import ASK, SDKS, Sdk, leave
from proxy_scene import REFUSAL, SECOND
from proxy_stage import MASTER_KEY, NARROW_KEY, PURSE_KEY, Proxy

pytest.importorskip("openai")
pytest.importorskip("anthropic")

surfaces = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

REFUSED = ("demur:refusal",)
SERVED = ("demur:refusal", "demur:served:second")

# Of each model group: the groups that are called, and how their rows are tagged.
ATTEMPTS = {
    "slow": {"slow": REFUSED, "second": SERVED},
    "translated": {"translated": REFUSED, "second": SERVED},
    "helpful": {"helpful": ()},
    "both": {"both": REFUSED, "stubborn": REFUSED},
    "hops": {"hops": REFUSED, "stubborn": REFUSED, "second": SERVED},
    "last": {"last": REFUSED, "stubborn": ("demur:refusal", "demur:served:stubborn")},
    "error": {"error": REFUSED, "stubborn": REFUSED},
}


def tags(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(tag for tag in row["request_tags"] or () if tag.startswith("demur:"))


@surfaces
@streams
@pytest.mark.parametrize("model", ATTEMPTS)
def test_a_row_an_attempt(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """Every attempt is logged once, under its own group, with tokens, cost and tags."""
    before = proxy.count_records()
    if model == "error":
        with pytest.raises(sdk.errors):
            sdk.ask(proxy, model, stream=stream)
    else:
        sdk.ask(proxy, model, stream=stream)
    rows = proxy.records_after(before, len(ATTEMPTS[model]))
    assert {row["model_group"]: tags(row) for row in rows} == ATTEMPTS[model]
    assert len(rows) == len(ATTEMPTS[model])
    assert {row["status"] for row in rows} == {"success"}
    assert all(row["total_tokens"] > 5 and row["response_cost"] > 5e-6 for row in rows)
    assert len({row["litellm_call_id"] for row in rows}) == len(rows)


@surfaces
@streams
def test_guardrail_record(proxy: Proxy, sdk: Sdk, stream: bool) -> None:
    """Each row says what the guardrail found: status, duration, label, score, and no text."""
    before = proxy.count_records()
    sdk.ask(proxy, "hops", stream=stream)
    rows = {r["model_group"]: r["guardrails"] for r in proxy.records_after(before, 3)}
    (served,) = rows.pop("second")
    assert (served["guardrail_name"], served["guardrail_provider"]) == ("demur", "demur")
    assert (served["guardrail_status"], served["detection_method"]) == ("success", "embedded")
    assert 0.0 <= served["duration"] < 5.0
    for (refused,) in rows.values():
        assert refused["guardrail_status"] == "guardrail_intervened"
        assert refused["classification"]["label"] == "refusal"
        assert served["confidence_score"] < 0.5 <= refused["confidence_score"]
    assert "sorry" not in str(rows)


@surfaces
def test_a_fallback_that_errs(proxy: Proxy, sdk: Sdk) -> None:
    """An error of a fallback's is logged as what it is, beside what was refused and served; the
    guardrail has judged nothing there."""
    before = proxy.count_records()
    sdk.ask(proxy, "after-broken", stream=False)
    rows = proxy.records_after(before, 3)
    assert sorted((row["status"], row["model_group"]) for row in rows) == [
        ("failure", "broken"),
        ("success", "after-broken"),
        ("success", "second"),
    ]
    assert not [row for row in rows if row["status"] == "failure" and row["guardrails"]]
    before = proxy.count_records()
    assert sdk.ask(proxy, "only-broken", stream=False)[0] == REFUSAL
    rows = proxy.records_after(before, 2)
    assert sorted((row["status"], row["model_group"]) for row in rows) == [
        ("failure", "broken"),
        ("success", "only-broken"),
    ]


@streams
def test_budgets_count_refusals(proxy: Proxy, stream: bool) -> None:
    """What refused attempts cost is taken from the key's budget: once it is spent, none falls back.

    The key has 1.1e-4: the two requests cost 1.12e-4, and 6.2e-5 without what was refused.
    """
    chat, key = SDKS[0], f"{PURSE_KEY}-{stream}"
    for model, expected in (("primary", SECOND), ("both", REFUSAL)):
        before = proxy.count_records()
        assert chat.ask(proxy, model, stream=stream, key=key)[0] == expected
        proxy.records_after(before, 2)
    text, headers = chat.ask(proxy, "primary", stream=stream, key=key)
    assert (text, headers["x-demur-attempts"]) == (REFUSAL, "1")


@surfaces
@streams
@pytest.mark.parametrize("model", ["both", "error"])
def test_parallel_requests_are_given_back(proxy: Proxy, sdk: Sdk, stream: bool, model: str) -> None:
    """A key for one request at a time is free again after each, however it ended."""
    for _ in range(2):
        before = proxy.count_records()
        if model == "error":
            with pytest.raises(sdk.errors, match="refus"):
                sdk.ask(proxy, model, stream=stream, key=NARROW_KEY)
        else:
            sdk.ask(proxy, model, stream=stream, key=NARROW_KEY)
        proxy.records_after(before, 2)  # LiteLLM gives the slot back behind the response


@pytest.mark.parametrize("surface", ["chat", "messages", "responses"])
def test_a_caller_who_leaves_a_fallback(proxy: Proxy, surface: str) -> None:
    """What a fallback's stream had said by then is paid for, as the refusal before it is."""
    path, said = {
        "chat": ("chat/completions", {"messages": ASK}),
        "messages": ("messages", {"messages": ASK, "max_tokens": 99}),
        "responses": ("responses", {"input": "Which is the capital of Portugal?"}),
    }[surface]
    body = json.dumps({"model": "leaving", "stream": True, **said}).encode()
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    before = proxy.count_records()
    with urlopen(Request(f"{proxy.url}/v1/{path}", body, headers), timeout=60) as stream:
        for _ in range(25):
            stream.readline()
    rows = proxy.records_after(before, 2)
    assert sorted(row["model_group"] for row in rows) == ["leaving", "talkative"]
    assert min(row["response_cost"] for row in rows) > 5e-6
    assert {row["status"] for row in rows} == {"success"}


@streams
def test_a_caller_who_leaves_before_there_is_an_answer(proxy: Proxy, stream: bool) -> None:
    """The refusal is paid for all the same, once, whatever becomes of the fallback."""
    before = proxy.count_records()
    leave(proxy, "hasty", stream=stream, seconds=1.0)
    rows = proxy.records_after(before, 2)
    assert [tags(row) for row in rows if row["model_group"] == "hasty"] == [REFUSED]

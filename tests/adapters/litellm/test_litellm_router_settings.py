"""Settings that an operator gives the Router, a key or the cache, and a policy beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from proxy_scene import ANSWER, REFUSAL, SCRIPT, SECOND, _rule
from proxy_stage import Proxy, skip_without_proxy
from test_litellm_operators import ASK, CHAT, Answer, Operated

from demur.testing import Reply, Upstream

GROUPS = {
    "primary": "m-refusing",
    "hops": "m-refusing",
    "wavering": "m-refusing",
    "rationed": "m-refusing",
    "stubborn": "m-also-refusing",
    "second": "m-second",
    "moody": "m-moody",
    "down": "m-down",
    "falling": "m-refusing",
    "helpful": "m-helpful",
    "forbidden": "m-forbidding",
    "rerouted": "m-forbidding",
}
POLICY = {
    "version": 1,
    "rules": [
        _rule("primary", "second"),
        _rule("hops", "stubborn", "second"),
        _rule("wavering", "moody"),
        _rule("rationed", "moody"),
        _rule("down", "second"),
        _rule("falling", "down", "second"),
        _rule("forbidden", "second"),
        _rule("rerouted", "second", retry={"provider_errors": True}),
        {"name": "rest", "actions": ["tag"]},
    ],
}
KEYS = {
    "sk-policy": {"content_policy_fallbacks": [{"forbidden": ["helpful"]}]},
    "sk-errors": {"fallbacks": [{"forbidden": ["helpful"]}]},
    "sk-own": {"fallbacks": ["helpful"]},
}
PATHS = {
    CHAT: {"messages": ASK},
    "/v1/messages": {"messages": ASK, "max_tokens": 9},
    "/v1/responses": {"input": "What is the capital of Portugal?"},
}


class Retrying(Operated):
    """Its Router repeats what a provider's policy refuses; keys have settings of their own."""

    settings: ClassVar[Mapping[str, Any]] = {
        "retry_policy": {"ContentPolicyViolationErrorRetries": 2, "DefaultRetries": 1},
        "routing_strategy": "usage-based-routing-v2",
    }

    def _start(self) -> Any:
        path = self.folder / "lab.py"
        first = '    if api_key == "sk-limited":'
        own = f"    if api_key in {KEYS!r}:\n        return UserAPIKeyAuth(api_key=api_key, "
        own += f"router_settings={KEYS!r}[api_key])\n"
        path.write_text(path.read_text().replace(first, own + first, 1))
        return super()._start()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    down = Reply("down", status=500)
    with Upstream({**SCRIPT, "m-moody": Reply(SECOND), "m-down": down}) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("retrying")
    made = Retrying(folder, base_url=upstream.base_url, models=GROUPS, policy=POLICY, cached=True)
    with made as started:
        yield started.wait_until_up()


def fresh(path: str, model: str, **more: Any) -> dict[str, Any]:
    """A request that nothing cached answers."""
    return {"model": model, **PATHS[path], "cache": {"no-cache": True}, **more}


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["primary", "hops"])
def test_a_retry_policy_repeats_no_refusal(
    upstream: Upstream, proxy: Proxy, path: str, model: str
) -> None:
    """A refused attempt looks like a policy error to the Router; it is not made again for that."""
    answer = Answer(upstream, proxy, path, fresh(path, model))
    hops = ["m-also-refusing"] if model == "hops" else []
    assert answer.called == ["m-refusing", *hops, "m-second"]
    assert answer.headers["x-demur-served-model"] == "second"
    assert answer.headers["x-demur-attempts"] == str(len(answer.called))


@pytest.mark.parametrize("path", PATHS)
def test_a_call_that_is_repeated_fails_once(upstream: Upstream, proxy: Proxy, path: str) -> None:
    """In LiteLLM's log, and so in what else is told of failures: as without demur, one's that was
    asked for, and a fallback's."""
    before = proxy.count_records()
    answer = Answer(upstream, proxy, path, fresh(path, "down"))
    assert (answer.status, answer.called) == (500, ["m-down"] * 2)
    (row,) = proxy.records_after(before, 1)
    assert (row["status"], row["model_group"]) == ("failure", "down")
    before = proxy.count_records()
    answer = Answer(upstream, proxy, path, fresh(path, "falling"))
    assert answer.called == ["m-refusing", "m-down", "m-down", "m-second"]
    rows = proxy.records_after(before, 3)
    assert sorted((row["status"], row["model_group"]) for row in rows) == [
        ("failure", "down"),
        ("success", "falling"),
        ("success", "second"),
    ]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_policy_errors_are_rerouted_where_the_rule_says_so(
    upstream: Upstream, proxy: Proxy, path: str, stream: bool
) -> None:
    """``provider_errors``: streams too go along the chain, and who answers is named."""
    answer = Answer(upstream, proxy, path, fresh(path, "rerouted", stream=stream))
    assert (answer.status, answer.called[-1]) == (200, "m-second")
    assert answer.headers["x-demur-served-model"] == "second"


@pytest.mark.parametrize("key", ["sk-policy", "sk-errors"])
def test_a_keys_own_fallbacks_hold(upstream: Upstream, proxy: Proxy, key: str) -> None:
    """A provider's policy error goes where it goes without demur."""
    answer = Answer(upstream, proxy, CHAT, fresh(CHAT, "forbidden"), key=key)
    assert (answer.status, answer.called[-1], answer.text) == (200, "m-helpful", ANSWER)


def test_a_key_with_fallbacks_for_every_model_keeps_its_refusal(
    upstream: Upstream, proxy: Proxy
) -> None:
    """Such a list takes the place of the policy's chain, as a caller's own does."""
    answer = Answer(upstream, proxy, CHAT, fresh(CHAT, "primary"), key="sk-own")
    assert (answer.status, answer.called, answer.text) == (200, ["m-refusing"], REFUSAL)


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_in_the_cache_is_replaced(upstream: Upstream, proxy: Proxy, path: str) -> None:
    """It came there without demur: the chain is called for it, and each call logged."""
    name = "litellm_metadata" if path != CHAT else "metadata"
    asked = {**PATHS[path], "model": "primary"}
    asked |= question(path) if "messages" in asked else {"input": path}
    off = {**asked, name: {"demur": "off"}}
    assert Answer(upstream, proxy, path, off).called == ["m-refusing"]
    time.sleep(0.5)  # LiteLLM writes its cache after the answer
    before = proxy.count_records()
    answer = Answer(upstream, proxy, path, asked)
    assert answer.called == ["m-second"]
    assert SECOND in answer.body
    assert answer.headers["x-demur-served-model"] == "second"
    rows = proxy.records_after(before, 2)
    (row,) = [row for row in rows if row["model_group"] == "second"]
    assert "demur:served:second" in row["request_tags"]


@pytest.mark.parametrize("model", ["wavering", "rationed"])
def test_a_kept_refusal_is_nobodys_cached_answer(
    upstream: Upstream, proxy: Proxy, model: str
) -> None:
    """Once the fallback works again it answers; and nobody gets the refusal as its answer."""
    asked = question(f"What does {model} mean?")
    upstream.script["m-moody"] = Reply("down", status=400)
    answer = Answer(upstream, proxy, CHAT, {"model": model, **asked})
    assert answer.text == REFUSAL
    upstream.script["m-moody"] = Reply(SECOND)
    time.sleep(0.5)
    assert Answer(upstream, proxy, CHAT, {"model": "moody", **asked}).text == SECOND
    if model == "wavering":
        assert Answer(upstream, proxy, CHAT, {"model": model, **asked}).text == SECOND

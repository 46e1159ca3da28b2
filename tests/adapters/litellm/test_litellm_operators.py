"""What an operator has the proxy do besides: health checks, and fallbacks of the Router's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from proxy_scene import ANSWER, REFUSAL, SCRIPT, SECOND, _rule
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Reply, Upstream

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "What is the capital of Portugal?"}]
HALF = "Lisbon is the capital of Portugal, on the river Tagus. " * 5 + "Its people are"
GROUPS = {
    "helpful": "m-helpful",
    "second": "m-second",
    "stubborn": "m-also-refusing",
    "broken": "m-broken",
    "down": "m-down",
    "down-too": "m-down",
    "forbidden": "m-forbidding",
    "forbidden-alike": "m-forbidding",
    "only-broken": "m-refusing",
    "rationed": "m-refusing",
    "rationed-alike": "m-refusing",
    "half": "m-half",
    "half-alike": "m-half",
    "blocked": "m-blocked",
}
POLICY = {
    "version": 1,
    "rules": [
        _rule("forbidden", "second"),
        _rule("forbidden-alike", "second"),
        _rule("only-broken", "broken"),
        _rule("rationed", "stubborn"),
        _rule("rationed-alike", "broken"),
        _rule("half", "second"),
        _rule("half-alike", "second"),
        _rule("blocked", "stubborn"),
        _rule("down", "stubborn", "second"),
        _rule("down-too", "second"),
        {
            "name": "by-provider",
            "match": {"model": "openai/*"},
            "actions": ["tag", "log", "retry"],
            "retry": {"fallbacks": ["openai/m-second"]},
        },
        {"name": "rest", "actions": ["tag", "log"]},
    ],
}


class Operated(Proxy):
    """A proxy whose Router has settings of its own."""

    settings: ClassVar[Mapping[str, Any]] = {}

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["router_settings"] = {"num_retries": 0, **self.settings}
        for group in config["model_list"]:
            if group["model_name"].startswith("rationed"):
                group["litellm_params"]["rpm"] = 1
        path.write_text(yaml.safe_dump(config))
        return super()._start()


class WithFallbacks(Operated):
    """Its operator has fallbacks for errors."""

    settings: ClassVar[Mapping[str, Any]] = {
        "fallbacks": [
            {"forbidden": ["helpful"]},
            {"forbidden-alike": ["second"]},
            {"broken": ["helpful"]},
            {"down": ["stubborn"]},
            {"down-too": ["helpful"]},
        ]
    }


class WithPolicyFallbacks(Operated):
    """Its operator has fallbacks for policy errors of every model."""

    settings: ClassVar[Mapping[str, Any]] = {
        "content_policy_fallbacks": [{"half-alike": ["down"]}, {"*": ["helpful"]}],
        "routing_strategy": "usage-based-routing-v2",
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    script = {
        **SCRIPT,
        "m-down": Reply("down", status=500),
        "m-half": Reply(HALF, finish_reason="content_filter"),
        "m-blocked": Reply("", finish_reason="content_filter"),
    }
    with Upstream(script) as server:
        yield server


@pytest.fixture(scope="module")
def operated(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Proxy]]:
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("operated")
    common: dict[str, Any] = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with (
        WithFallbacks(folder / "fallbacks", **common) as one,
        WithPolicyFallbacks(folder / "policy", **common) as two,
    ):
        yield {"fallbacks": one.wait_until_up(), "policy": two.wait_until_up()}


class Answer:
    """What a caller got, and which models were called for it."""

    def __init__(
        self,
        upstream: Upstream,
        proxy: Proxy,
        path: str,
        body: Mapping[str, Any] | None = None,
        key: str = MASTER_KEY,
    ) -> None:
        before = len(upstream.requests)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(f"{proxy.url}{path}", data, headers), timeout=60) as answer:
                self.status, self.headers = answer.status, answer.headers
                self.body = answer.read().decode()
        except HTTPError as error:
            self.status, self.headers, self.body = error.code, error.headers, error.read().decode()
        self.text = self.body
        if self.status == 200 and path == CHAT and body is not None and not body.get("stream"):
            self.text = json.loads(self.body)["choices"][0]["message"]["content"]
        self.called = [request.model for request in upstream.requests[before:]]


def test_health_checks_are_not_judged(upstream: Upstream, operated: dict[str, Proxy]) -> None:
    """A check calls the model it checks, and nobody else, whatever that one says."""
    proxy = operated["fallbacks"]
    before = proxy.count_records()
    answer = Answer(upstream, proxy, "/health?model=stubborn")
    assert (answer.status, answer.called) == (200, ["m-also-refusing"])
    (row,) = proxy.records_after(before, 1)
    assert not [tag for tag in row["request_tags"] if tag.startswith("demur")]


@pytest.mark.parametrize(
    ("which", "model", "called", "text"),
    [
        ("fallbacks", "forbidden", ["m-forbidding", "m-helpful"], ANSWER),
        ("fallbacks", "forbidden-alike", ["m-forbidding", "m-second"], SECOND),
        ("policy", "forbidden", ["m-forbidding", "m-helpful"], ANSWER),
    ],
)
def test_policy_errors_are_the_operators(
    upstream: Upstream,
    operated: dict[str, Proxy],
    which: str,
    model: str,
    called: list[str],
    text: str,
) -> None:
    """A provider's policy error goes where it goes without demur, whose own chain is not called."""
    answer = Answer(upstream, operated[which], CHAT, {"model": model, "messages": ASK})
    assert (answer.status, answer.called, answer.text) == (200, called, text)


@pytest.mark.parametrize("which", ["fallbacks", "policy"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_refusals_are_not_the_operators(
    upstream: Upstream, operated: dict[str, Proxy], which: str, stream: bool
) -> None:
    """For a refusal the policy's chain is called, and nobody else for one of it that errs."""
    body = {"model": "only-broken", "messages": ASK, "stream": stream}
    answer = Answer(upstream, operated[which], CHAT, body)
    assert (answer.status, answer.called) == (200, ["m-refusing", "m-broken"])
    assert answer.headers["x-demur-served-model"] == "only-broken"
    assert answer.headers["x-demur-label"] == "refusal"
    if not stream:
        assert answer.text == REFUSAL


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_nobody_is_asked_twice(
    upstream: Upstream, operated: dict[str, Proxy], stream: bool
) -> None:
    """An operator's fallback for an error that refuses is not called again as the policy's own."""
    body = {"model": "down", "messages": ASK, "stream": stream}
    answer = Answer(upstream, operated["fallbacks"], CHAT, body)
    assert answer.called == ["m-down", "m-also-refusing", "m-second"]
    assert answer.headers["x-demur-served-model"] == "second"
    assert answer.headers["x-demur-attempts"] == "2"
    # LiteLLM counts its own fallback's fallback as none.
    assert answer.headers["x-litellm-attempted-fallbacks"] == ("2" if stream else "1")
    assert "second" in answer.text
    assert "sorry" not in answer.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_who_answers_for_a_model_that_errs_is_named(
    upstream: Upstream, operated: dict[str, Proxy], stream: bool
) -> None:
    """After a fallback of the operator's own: not the model that was asked for."""
    body = {"model": "down-too", "messages": ASK, "stream": stream}
    answer = Answer(upstream, operated["fallbacks"], CHAT, body)
    assert answer.called == ["m-down", "m-helpful"]
    assert answer.headers["x-demur-served-model"] == "helpful"
    assert answer.headers["x-demur-attempts"] == "1"
    assert answer.headers["x-demur-label"] == "normal"


@pytest.mark.parametrize(
    ("model", "fallback", "logged"),
    [
        ("rationed", "m-also-refusing", [("success", "rationed"), ("success", "stubborn")]),
        ("rationed-alike", "m-broken", [("failure", "broken"), ("success", "rationed-alike")]),
    ],
    ids=["which refuses", "which errs"],
)
def test_a_refusal_is_served_when_its_model_may_not_be_called(
    upstream: Upstream,
    operated: dict[str, Proxy],
    model: str,
    fallback: str,
    logged: list[tuple[str, str]],
) -> None:
    """Nobody is left to call, and the Router has no deployment for the model asked for by then."""
    proxy = operated["policy"]
    before = proxy.count_records()
    answer = Answer(upstream, proxy, CHAT, {"model": model, "messages": ASK})
    assert (answer.status, answer.text) == (200, REFUSAL)
    assert answer.called == ["m-refusing", fallback]
    assert answer.headers["x-demur-served-model"] == model
    assert answer.headers["x-litellm-model-group"] == model
    rows = proxy.records_after(before, len(logged))
    assert sorted((row["status"], row["model_group"]) for row in rows) == logged


@pytest.mark.parametrize(
    ("model", "called", "text"),
    [
        ("half", ["m-half", "m-helpful"], ANSWER),
        ("half-alike", ["m-half", "m-down"], HALF),
        ("blocked", ["m-blocked", "m-also-refusing"], ""),
    ],
)
def test_filtered_responses(
    upstream: Upstream, operated: dict[str, Proxy], model: str, called: list[str], text: str
) -> None:
    """One that the policy lets pass goes where it goes without demur, and is served if nobody
    answers there; one that it retries goes along the policy's chain and nowhere else."""
    answer = Answer(upstream, operated["policy"], CHAT, {"model": model, "messages": ASK})
    assert (answer.status, answer.called, answer.text or "") == (200, called, text)

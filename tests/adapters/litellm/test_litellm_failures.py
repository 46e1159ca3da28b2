"""Requests to the proxy that end with an error: on record once, and no breaker waits for them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from proxy_scene import REFUSAL, SCRIPT, rule
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Reply, Upstream

openai = pytest.importorskip("openai")

WAYS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
FLAKY = ("flaky-whole", "flaky-stream")
LIMITED = ("limited-whole", "limited-stream")


POLICY = {
    "version": 1,
    "rules": [
        rule([*FLAKY, *LIMITED], "second", breaker={"least": 1, "pause": 2.0}),
        rule("error", "broken", exhausted="error"),
        rule("moved", "broken", breaker={"least": 1, "pause": 600.0}),
        rule("forbidden", "second"),
        {"name": "rest"},
    ],
    "audit": {"path": "audit.jsonl"},
}
GROUPS = {
    "second": "m-second",
    "broken": "m-broken",
    "forbidden": "m-forbidding",
    "error": "m-refusing",
    "moved": "m-moved",
    **{name: f"m-{name}" for name in FLAKY},
    **dict.fromkeys(LIMITED, "m-refusing"),
}
# Lives beside the policy.
LIMITER = """
from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail

class Limiter(CustomGuardrail):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        if (data.get("metadata") or {}).get("requester_metadata", {}).get("limited"):
            raise HTTPException(429, "scripted limit")
"""


class Limited(Proxy):
    """A proxy with a guardrail behind demur, asked once that knows where a request starts."""

    def _start(self) -> subprocess.Popen[bytes]:
        (self.folder / "limits.py").write_text(LIMITER)
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        params = {"guardrail": "limits.Limiter", "mode": "pre_call", "default_on": True}
        config["guardrails"].append({"guardrail_name": "limits", "litellm_params": params})
        path.write_text(yaml.safe_dump(config))
        return super()._start()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    fails = Reply("scripted failure", status=400)
    flaky = [Reply(REFUSAL), fails, Reply("Sure, it is Lisbon.")]
    own = {**{f"m-{name}": flaky for name in FLAKY}, "m-moved": [Reply(REFUSAL), fails]}
    with Upstream({**SCRIPT, **own}) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("failing")
    settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with Limited(folder, **settings) as running:
        yield running.wait_until_up()


def ask(proxy: Proxy, model: str, *, stream: bool, **body: Any) -> str | None:
    """How the request started. Raises what the proxy answers, as the client does."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": "?"}],
            stream=stream,
            timeout=60,
            extra_body=body,
        )
        if stream:
            list(raw.parse())
        started: str | None = raw.headers.get("x-demur-started")
        return started


def until(happens: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := happens()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def audited(proxy: Proxy, model: str) -> list[dict[str, Any]]:
    """The records of requests for ``model`` that nobody was served for, once there are any."""
    path = proxy.folder / "audit.jsonl"

    def found() -> list[dict[str, Any]]:
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line) for line in lines]
        return [r for r in records if r["requested_model"] == model and r["served"] is None]

    until(found)
    time.sleep(0.3)  # one too many would come now
    return found()


@WAYS
def test_a_probe_that_errs(proxy: Proxy, stream: bool) -> None:
    """The breaker pauses again, as long as it is told to, and then another request probes."""
    model = FLAKY[stream]
    assert ask(proxy, model, stream=stream) is None
    with pytest.raises(openai.BadRequestError):
        until(lambda: ask(proxy, model, stream=stream) != "breaker")
    until(lambda: ask(proxy, model, stream=stream) == "probe")
    assert ask(proxy, model, stream=stream) is None
    (record,) = audited(proxy, model)
    assert (record["ending"], record["started"], record["stream"]) == ("failed", "probe", stream)
    (attempt,) = record["attempts"]
    assert (attempt["outcome"], attempt["error"]) == ("failed", "BadRequestError")


@WAYS
def test_a_probe_that_calls_nobody(proxy: Proxy, stream: bool) -> None:
    """What another hook of the proxy stops has said nothing of the model: the next one probes."""
    model = LIMITED[stream]
    assert ask(proxy, model, stream=stream) is None

    def probed() -> bool:
        with pytest.raises(openai.RateLimitError):
            ask(proxy, model, stream=stream, metadata={"limited": True})
        return ask(proxy, model, stream=stream) == "probe"

    until(probed)
    assert {(r["ending"], len(r["attempts"])) for r in audited(proxy, model)} == {("abandoned", 0)}


@WAYS
def test_a_call_that_fails(proxy: Proxy, stream: bool) -> None:
    """One record, one row, and the error that there is without demur."""
    before = proxy.count_records()
    with pytest.raises(openai.BadRequestError, match="scripted failure"):
        ask(proxy, "broken", stream=stream)
    rows = proxy.records_after(before, 1)
    assert [(row["status"], row["model_group"]) for row in rows] == [("failure", "broken")]
    records = [r for r in audited(proxy, "broken") if r["stream"] == stream]
    assert [(r["ending"], len(r["attempts"])) for r in records] == [("failed", 1)]


@WAYS
def test_a_providers_own_refusal(proxy: Proxy, stream: bool) -> None:
    """It is on record by the provider's error, though the Router wanted to fall back for it."""
    with pytest.raises(openai.BadRequestError):
        ask(proxy, "forbidden", stream=stream)
    records = [r for r in audited(proxy, "forbidden") if r["stream"] == stream]
    assert [r["ending"] for r in records] == ["failed"]
    assert [a["error"] for a in records[0]["attempts"]] == ["ContentPolicyViolationError"]


@WAYS
def test_a_refusal_that_is_to_be_an_error(proxy: Proxy, stream: bool) -> None:
    """Its fallback fails, so the request does: both attempts are in the one record."""
    with pytest.raises(openai.APIError):
        ask(proxy, "error", stream=stream)
    (record,) = [r for r in audited(proxy, "error") if r["stream"] == stream]
    assert record["ending"] == "exhausted"
    assert [a["outcome"] for a in record["attempts"]] == ["refused", "failed"]


def test_nobody_answers_where_it_starts(proxy: Proxy) -> None:
    """Neither the fallback nor the model that was asked for: both have failed."""
    assert ask(proxy, "moved", stream=False) is None
    with pytest.raises(openai.BadRequestError):
        ask(proxy, "moved", stream=False)
    (record,) = audited(proxy, "moved")
    assert (record["ending"], record["started"]) == ("failed", "breaker")
    assert [(a["model"], a["outcome"]) for a in record["attempts"]] == [
        ("broken", "failed"),
        ("moved", "failed"),
    ]

"""Responses in the background, which the proxy streams into its cache for callers to ask for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL, SECOND, rule
from proxy_stage import Proxy, skip_without_proxy
from test_litellm_operators import Answer

from demur.testing import Upstream

GROUPS = {
    "primary": "m-refusing",
    "forbidden": "m-forbidding",
    "both": "m-refusing",
    "helpful": "m-helpful",
    "second": "m-second",
    "stubborn": "m-also-refusing",
}
RULES = [rule(["primary", "forbidden", "helpful"], "second"), rule("both", "stubborn")]


@pytest.fixture(scope="module")
def polled(
    upstream: Upstream, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    skip_without_proxy()
    cache = {"type": "redis", "url": redis_url, "supported_call_types": []}
    settings = {
        "callbacks": ["lab.records"],
        "cache": True,
        "cache_params": cache,
        "responses": {"background_mode": {"polling_via_cache": "all", "ttl": 600}},
    }
    with Proxy(
        tmp_path_factory.mktemp("polled"),
        base_url=upstream.base_url,
        models=GROUPS,
        policy={"version": 1, "rules": RULES},
        parts={"litellm_settings": settings, "router_settings": {"num_retries": 0}},
    ) as proxy:
        yield proxy.wait_until_up()


@pytest.mark.parametrize(
    ("model", "called", "text"),
    [
        ("primary", ["m-refusing", "m-second"], SECOND),
        ("both", ["m-refusing", "m-also-refusing"], REFUSAL),
        ("helpful", ["m-helpful"], ANSWER),
    ],
)
def test_a_refusal_is_replaced(
    upstream: Upstream, polled: Proxy, model: str, called: list[str], text: str
) -> None:
    """As in a stream; every attempt is logged."""
    rows, requests = polled.count_records(), len(upstream.requests)
    response = answer_of(upstream, polled, model)
    assert response["status"] == "completed"
    (said,) = response["output"][0]["content"]
    assert said["text"] == text
    assert [request.model for request in upstream.requests[requests:]] == called
    logged = polled.records_after(rows, len(called))
    refused = [row for row in logged if "demur:refusal" in row["request_tags"]]
    assert (len(logged), len(refused)) == (len(called), 0 if model == "helpful" else 2)


def test_an_error_is_told(upstream: Upstream, polled: Proxy) -> None:
    """A provider's own policy error is no empty response."""
    response = answer_of(upstream, polled, "forbidden")
    assert (response["status"], response["output"]) == ("failed", [])
    assert "content_policy_violation" in response["error"]["message"]


def answer_of(upstream: Upstream, proxy: Proxy, model: str) -> dict[str, Any]:
    body = {"model": model, "input": "Which capital?", "background": True}
    asked = json.loads(Answer(upstream, proxy, "/v1/responses", body).body)
    assert asked["status"] == "queued"
    end = time.monotonic() + 20
    while True:
        found: dict[str, Any] = json.loads(
            Answer(upstream, proxy, f"/v1/responses/{asked['id']}").body
        )
        if found["status"] not in ("queued", "in_progress") or time.monotonic() > end:
            return found
        time.sleep(0.1)

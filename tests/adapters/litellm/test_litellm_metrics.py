"""What an operator of the proxy sees: demur's numbers on its metrics page, every record kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import proxy_stage
import pytest
from prometheus_client.parser import text_string_to_metric_families
from proxy_stage import MASTER_KEY, Proxy, missing

from demur.testing import Upstream

POLICY = {
    "version": 1,
    "rules": [
        {
            "name": "retry",
            "match": {"model": "primary"},
            "actions": ["tag", "log", "retry"],
            "retry": {"fallbacks": ["second"]},
        },
        {"name": "rest"},
    ],
    "audit": {"path": "audit.jsonl"},
    "metrics": ["prometheus"],
}
GROUPS = {"primary": "m-refusing", "second": "m-second"}


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that has LiteLLM's own Prometheus callback, too."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    plain = proxy_stage._config

    def with_metrics(*args: Any, **more: Any) -> dict[str, Any]:
        config = plain(*args, **more)
        config["litellm_settings"]["callbacks"].append("prometheus")
        return config

    monkeypatch.setattr(proxy_stage, "_config", with_metrics)
    settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with Proxy(tmp_path, **settings) as running:
        yield running.wait_until_up()


def samples(proxy: Proxy) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"{proxy.url}/metrics/", timeout=10) as answer:
        page = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("demur_")
    }


def ask(client: Any, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "?"}], timeout=60
    )
    text: str = answer.choices[0].message.content
    return text


def test_metrics_and_audit_of_a_proxy(proxy: Proxy, tmp_path: Path) -> None:
    """The metrics endpoint tells of demur; stopping the proxy loses no audit record."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        for _ in range(3):
            ask(client, "primary")
        ask(client, "second")
        found = samples(proxy)
        replaced = {
            "model": "primary", "label": "refusal", "source": "embedded", "action": "replaced",
        }  # fmt: skip
        served = {
            "model": "second", "label": "normal", "source": "embedded", "action": "served",
        }  # fmt: skip
        fallback = {"from": "primary", "to": "second", "outcome": "accepted"}
        assert found["demur_responses_total", frozenset(replaced.items())] == 3
        assert found["demur_responses_total", frozenset(served.items())] == 4
        assert found["demur_fallbacks_total", frozenset(fallback.items())] == 3
        assert found["demur_detection_seconds_count", frozenset()] == 4
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client, "primary"), range(40)))
    os.killpg(proxy._process.pid, signal.SIGTERM)
    proxy.wait_until_exit(30)
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert len(rows) == 44
    assert len({row["id"] for row in rows}) == 44
    assert {row["policy"] for row in rows} == {rows[0]["policy"]}
    assert all(abs(time.time() - _seconds(row["time"])) < 300 for row in rows)


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()

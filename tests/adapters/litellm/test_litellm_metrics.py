"""What an operator of the proxy sees: demur's numbers, events on its spans, every record kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from otlp_collector import OtlpCollector, Span
from prometheus_client.parser import text_string_to_metric_families
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

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
    "metrics": ["prometheus", "opentelemetry"],
}
REQUEST = "POST /v1/chat/completions"
EVENT = "gen_ai.evaluation.result"
MODEL, LABEL = "gen_ai.request.model", "gen_ai.evaluation.score.label"
GROUPS = {"primary": "m-refusing", "second": "m-second"}


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as running:
        yield running


@pytest.fixture
def proxy(
    upstream: Upstream,
    collector: OtlpCollector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Proxy]:
    """A proxy that has LiteLLM's own Prometheus and OpenTelemetry callbacks, too."""
    skip_without_proxy()
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with Proxy(tmp_path, callbacks=["prometheus", "otel"], **settings) as running:
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


def test_metrics_and_audit_of_a_proxy(
    proxy: Proxy, collector: OtlpCollector, tmp_path: Path
) -> None:
    """Metrics page and spans tell of demur; stopping the proxy loses no audit record."""
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
        check_spans(spans_of(collector, requests=44))
    os.killpg(proxy._process.pid, signal.SIGTERM)
    proxy.wait_until_exit(30)
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert len(rows) == 44
    assert len({row["id"] for row in rows}) == 44
    assert {row["policy"] for row in rows} == {rows[0]["policy"]}
    assert all(abs(time.time() - _seconds(row["time"])) < 300 for row in rows)


def verdicts(span: Span) -> tuple[tuple[str, str], ...]:
    """Model and label of each verdict on a span."""
    return tuple((told[MODEL], told[LABEL]) for name, told in span.events if name == EVENT)


def requests_in(spans: list[Span]) -> list[Span]:
    """The roots of the traces of completions."""
    return [span for span in spans if span.name == REQUEST and not span.parent]


def spans_of(collector: OtlpCollector, requests: int) -> list[Span]:
    """The spans that a proxy has exported, once so many whole requests are among them."""
    return collector.wait_for(
        lambda spans: min(len(requests_in(spans)), sum(map(bool, map(verdicts, spans)))) >= requests
    )


def check_spans(every: list[Span]) -> None:
    """A request's verdicts are events under the span of that very request."""
    spans = [span for span in every if verdicts(span)]
    assert len(spans) == 44
    assert {span.parent for span in spans} <= {span.id for span in requests_in(every)}
    assert len({span.trace for span in spans}) == len(spans)
    told = [verdicts(span) for span in spans]
    assert told.count((("primary", "refusal"), ("second", "normal"))) == 43
    assert told.count((("second", "normal"),)) == 1


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

"""What LiteLLM's own Prometheus and OpenTelemetry callbacks make of a proxy's refused attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.request import Request, urlopen

import pytest
from official import SDKS, Sdk, leave
from otlp_collector import OtlpCollector, Span
from prometheus_client.parser import text_string_to_metric_families
from proxy_scene import REFUSAL, SECOND, rule
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Upstream

pytest.importorskip("openai")
pytest.importorskip("anthropic")

surfaces = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

GROUPS = {
    "primary": "m-refusing",
    "slow": "m-refusing-slowly",
    "hops": "m-refusing",
    "both": "m-refusing",
    "erring": "m-refusing",
    "second": "m-second",
    "stubborn": "m-also-refusing",
    "broken": "m-broken",
}
POLICY = {
    "version": 1,
    "rules": [
        rule("primary", "second"),
        rule("slow", "second"),
        rule("hops", "stubborn", "second"),
        rule("both", "stubborn"),
        rule("erring", "broken", "second"),
    ],
}
REQUEST, ATTEMPT = "Received Proxy Server Request", "litellm_request"


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(
    upstream: Upstream, collector: OtlpCollector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """With LiteLLM's own keys: a request has a span of LiteLLM's only with these."""
    skip_without_proxy()
    parts = {
        "general_settings": {"master_key": MASTER_KEY},
        "router_settings": {"num_retries": 0},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
        folder = tmp_path_factory.mktemp("observed")
        with Proxy(folder, callbacks=["prometheus", "otel"], parts=parts, **settings) as running:
            yield running.wait_until_up()


def counts(proxy: Proxy) -> Counter[tuple[str, str]]:
    """LiteLLM's counters by their names and the model groups they are of."""
    asked = Request(f"{proxy.url}/metrics/", headers={"authorization": f"Bearer {MASTER_KEY}"})
    with urlopen(asked, timeout=10) as answer:
        page = answer.read().decode()
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            group = sample.labels.get("fallback_model") or sample.labels.get("requested_model")
            if sample.name.endswith("_total") and group is not None:
                name = sample.name.removeprefix("litellm_").removesuffix("_total")
                found[name, group] += sample.value  # type: ignore[assignment]
    return found


@surfaces
@streams
def test_counted_once(proxy: Proxy, sdk: Sdk, stream: bool) -> None:
    """Prometheus counts every attempt once, with what its row in the log says; none as failed."""
    before, rows_before = counts(proxy), proxy.count_records()
    assert sdk.ask(proxy, "primary", stream=stream)[0] == SECOND
    rows = proxy.records_after(rows_before, 2)
    found = counts(proxy)
    found.subtract(before)
    for row in rows:
        group = row["model_group"]
        for name in (
            "requests_metric",
            "deployment_success_responses",
            "deployment_total_requests",
        ):
            assert found[name, group] == 1
        assert found["total_tokens_metric", group] == row["total_tokens"]
        assert found["spend_metric", group] == pytest.approx(row["response_cost"])
    assert sorted(row["model_group"] for row in rows) == ["primary", "second"]
    assert not [name for name, value in found.items() if value and "fail" in name[0]]
    assert not [name for name, value in found.items() if value and "cooled" in name[0]]


@surfaces
@streams
def test_fallbacks_are_counted(proxy: Proxy, sdk: Sdk, stream: bool) -> None:
    """A fallback that answers is one to Prometheus, one that errs a failed one, in streams too."""
    before, rows_before = counts(proxy), proxy.count_records()
    assert sdk.ask(proxy, "erring", stream=stream)[0] == SECOND
    proxy.records_after(rows_before, 3)
    found = counts(proxy)
    found.subtract(before)
    assert found["deployment_successful_fallbacks", "second"] == 1
    assert found["deployment_failed_fallbacks", "broken"] == 1
    assert found["deployment_failed_fallbacks", "second"] == 0


@surfaces
@streams
@pytest.mark.parametrize("model", ["slow", "hops", "both"])
def test_spans_of_attempts(
    proxy: Proxy, collector: OtlpCollector, sdk: Sdk, stream: bool, model: str
) -> None:
    """A request's span lasts until its last attempt's has ended, and these follow each other."""
    before = {span.id for span in collector.wait_for(lambda _: True)}
    expected = 3 if model == "hops" else 2
    text, _ = sdk.ask(proxy, model, stream=stream)
    assert text == (REFUSAL if model == "both" else SECOND)

    def attempts(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.name == ATTEMPT and span.id not in before]

    spans = collector.wait_for(
        lambda spans: (
            len(attempts(spans)) >= expected
            and any(span.name == REQUEST and span.id not in before for span in spans)
        )
    )
    (request,) = (span for span in spans if span.name == REQUEST and span.id not in before)
    found = sorted(attempts(spans), key=lambda span: span.start)
    assert [span.parent for span in found] == [request.id] * expected
    assert request.end >= max(span.end for span in found)
    if not (stream and model == "both"):  # whose first stream is held until the last has refused
        assert all(one.end <= after.start for one, after in pairwise(found))


def test_a_caller_who_leaves_while_it_is_held(proxy: Proxy, collector: OtlpCollector) -> None:
    """The request's span ends all the same, though nobody is served."""
    before = {span.id for span in collector.wait_for(lambda _: True)}
    leave(proxy, "slow", stream=True, seconds=0.25)

    def ended(spans: list[Span]) -> bool:
        return any(span.name == REQUEST and span.id not in before for span in spans)

    assert ended(collector.wait_for(ended, seconds=10))

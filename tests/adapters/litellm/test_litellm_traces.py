"""What a trace of a streamed request through the proxy says of its verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from otlp_collector import OtlpCollector
from proxy_scene import SECOND
from proxy_stage import MASTER_KEY, Proxy
from test_litellm_metrics import collector as collector
from test_litellm_metrics import proxy as proxy
from test_litellm_metrics import requests_in, spans_of, verdicts

openai = pytest.importorskip("openai")


def streamed(client: Any, model: str) -> str:
    chunks = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "?"}], stream=True, timeout=60
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_streams_verdicts_are_on_its_request(proxy: Proxy, collector: OtlpCollector) -> None:
    """A streamed request's verdicts are events in its own trace, the refused attempt's, too."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        assert streamed(client, "primary") == SECOND
        assert streamed(client, "second") == SECOND
    every = spans_of(collector, requests=2)
    told = [(span, verdicts(span)) for span in every if verdicts(span)]
    assert sorted(found for _, found in told) == [
        (("primary", "refusal"), ("second", "normal")),
        (("second", "normal"),),
    ]
    requests = {span.trace: span.id for span in requests_in(every)}
    for span, _ in told:
        assert requests[span.trace] in (span.id, span.parent)
    assert len({span.trace for span, _ in told}) == 2

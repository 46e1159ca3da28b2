"""What a trace of a streamed request through the proxy says of its verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_scene import SECOND
from proxy_stage import MASTER_KEY, Proxy
from test_litellm_metrics import EVENT, LABEL, MODEL, spans_of
from test_litellm_metrics import proxy as proxy

openai = pytest.importorskip("openai")


def streamed(client: Any, model: str) -> str:
    chunks = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "?"}], stream=True, timeout=60
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def events(span: dict[str, Any]) -> list[tuple[str, str]]:
    """Model and label of each verdict on a span."""
    return [
        (event["attributes"][MODEL], event["attributes"][LABEL])
        for event in span["events"]
        if event["name"] == EVENT
    ]


def test_a_streams_verdicts_are_on_its_request(proxy: Proxy) -> None:
    """A streamed request's verdicts are events in its own trace, the refused attempt's, too."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        assert streamed(client, "primary") == SECOND
        assert streamed(client, "second") == SECOND
    every = spans_of(proxy, at_least=2)
    told = [(span, events(span)) for span in every if events(span)]
    assert sorted(found for _, found in told) == [
        [("primary", "refusal"), ("second", "normal")],
        [("second", "normal")],
    ]
    requests = {
        span["context"]["trace_id"]: span["context"]["span_id"]
        for span in every
        if span["parent_id"] is None and span["name"] == "POST /v1/chat/completions"
    }
    for span, _ in told:
        own = requests[span["context"]["trace_id"]]
        assert own in (span["context"]["span_id"], span["parent_id"])
    assert len({span["context"]["trace_id"] for span, _ in told}) == 2

"""What a wrapped client leaves behind: an audit record and events on the request's span."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from openai_stage import ANSWER, REFUSAL, Caller, retrying

import demur
from demur.sinks import Sink, flush
from demur.testing import CapturedRecords, Reply, Upstream
from demur.vocabulary import Outcome

SCRIPT = {"primary": Reply(REFUSAL), "second": Reply(ANSWER)}


def recorded(tmp_path: Path, at_least: int = 1) -> list[dict[str, Any]]:
    """The audit log, once its thread has written that much."""
    path, end = tmp_path / "audit.jsonl", time.monotonic() + 5
    while time.monotonic() < end:
        rows = path.read_text().splitlines() if path.exists() else []
        if len(rows) >= at_least:
            break
        time.sleep(0.01)
    return [json.loads(row) for row in rows]


@pytest.mark.parametrize("stream", [False, True])
def test_audit_with_content(caller: Caller, tmp_path: Path, stream: bool) -> None:
    """Streamed or not, every attempt's text is in the record, and only there."""
    policy = {**retrying(), "audit": {"path": str(tmp_path / "audit.jsonl"), "content": "full"}}
    with Upstream(SCRIPT) as upstream:
        response = caller.create(caller.wrap(upstream, policy=policy), stream=stream)
        if stream:
            assert caller.text(response) == ANSWER
        (record,) = recorded(tmp_path)
    refused, answered = record["attempts"]
    assert answered["content"][0]["text"] == ANSWER
    # Of a refused stream only what was held has been read.
    text = refused["content"][0]["text"]
    assert REFUSAL.startswith(text) if stream else text == REFUSAL
    assert len(text) >= len("I'm sorry")
    assert (record["ending"], record["stream"], record["content"]) == ("fell_back", stream, "full")
    outcome = demur.outcome_of(response)
    assert outcome is not None
    assert record["id"] == outcome.id
    assert "sorry" not in repr(outcome)


@pytest.mark.parametrize("stream", [False, True])
def test_events_on_the_span(caller: Caller, stream: bool) -> None:
    """The verdicts are events of the span that was active where the response was read."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    policy = {**retrying(), "metrics": ["opentelemetry"]}
    with Upstream(SCRIPT) as upstream:
        client = caller.wrap(upstream, policy=policy)
        with provider.get_tracer("test").start_as_current_span("chat primary"):
            response = caller.create(client, stream=stream)
            if stream:
                caller.items(response)
    (span,) = exporter.get_finished_spans()
    told = [
        (
            e.name,
            e.attributes["gen_ai.request.model"],
            e.attributes["gen_ai.evaluation.score.label"],
        )
        for e in span.events
        if e.attributes is not None
    ]
    assert told == [
        ("gen_ai.evaluation.result", "primary", "refusal"),
        ("gen_ai.evaluation.result", "second", "normal"),
    ]
    provider.shutdown()


@pytest.mark.parametrize("stream", [False, True])
def test_sinks_of_the_callers_own(
    caller: Caller, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """They get each outcome once, beside the policy's; one that fails keeps nobody from it."""
    caplog.set_level("INFO", logger="demur")

    def broken(record: Outcome, /) -> None:
        raise OSError("full")

    captured = CapturedRecords()
    sinks: list[Sink] = [broken, captured]
    with Upstream(SCRIPT) as upstream:
        response = caller.create(caller.wrap(upstream, sinks=sinks), stream=stream)
        if stream:
            assert caller.text(response) == ANSWER
    assert captured.records == [demur.outcome_of(response)]
    assert "sink function failed: OSError" in caplog.text
    assert "fell_back" in caplog.text


def test_sinks_get_what_rules_log(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """A rule without the action log is none of the sinks' business; where all are, that is told."""
    captured = CapturedRecords()
    policy = {"version": 1, "rules": [{"name": "quiet", "actions": ["tag"]}]}
    with Upstream(SCRIPT) as upstream:
        caller.create(caller.wrap(upstream, policy=policy, sinks=[captured]))
    assert captured.records == []
    assert "the sinks are never called" in caplog.text


class AwaitedSink:
    async def __call__(self, record: Outcome, /) -> None:
        """Nobody waits for it."""


@pytest.mark.parametrize("wrong", [AwaitedSink(), AwaitedSink().__call__])
def test_a_sink_that_would_have_to_be_awaited_is_refused(caller: Caller, wrong: Any) -> None:
    """It would get nothing, and only a warning of the interpreter would say so."""
    with Upstream(SCRIPT) as upstream, pytest.raises(demur.PolicyError, match="not awaited"):
        caller.wrap(upstream, sinks=[wrong])


@pytest.mark.parametrize("wrong", [5, [5], CapturedRecords()])
def test_what_is_no_sink_is_refused(caller: Caller, wrong: Any) -> None:
    """A wrong argument is told when the client is wrapped."""
    with Upstream(SCRIPT) as upstream, pytest.raises(demur.PolicyError, match="sinks must be"):
        caller.wrap(upstream, sinks=wrong)


def test_the_audit_can_be_waited_for(caller: Caller, tmp_path: Path) -> None:
    """``sinks.flush`` waits until the records are in the file, for those who are stopped next."""
    policy = {**retrying(), "audit": {"path": str(tmp_path / "audit.jsonl")}}
    with Upstream(SCRIPT) as upstream:
        client = caller.wrap(upstream, policy=policy)
        for _ in range(20):
            caller.create(client)
    assert flush()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 20

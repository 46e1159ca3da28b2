"""OpenTelemetry's spans and log records, kept in memory as plain data."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
processor = SimpleSpanProcessor(exporter)
tracers = TracerProvider()
tracers.add_span_processor(processor)

_log_exporter = InMemoryLogRecordExporter()
loggers = LoggerProvider()
loggers.add_log_record_processor(SimpleLogRecordProcessor(_log_exporter))


def records() -> list[Any]:
    """What has ended or was logged since the last time."""
    spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    logged = [json.loads(log.to_json()) for log in _log_exporter.get_finished_logs()]
    exporter.clear()
    _log_exporter.clear()
    return [{k: v for k, v in made.items() if k != "resource"} for made in spans + logged]


def served(ran: Any, asked: str) -> Any:
    """Of spans of each attempt the fallback's, as if that had been asked under the other's name.

    ``asked`` is the attribute that says which model is asked.
    """
    spans = ran["records"]
    kept = [span for span in spans if "second" in span["attributes"][asked]] or spans
    return {**ran, "records": json.loads(json.dumps(kept).replace("second", "primary"))}

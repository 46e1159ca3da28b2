"""traceloop's instrumentation of the SDK, without the rest of it."""

from __future__ import annotations

from opentelemetry.instrumentation.openai import OpenAIInstrumentor

from . import calls, spans

PACKAGE = "opentelemetry-instrumentation-openai"
CASES = calls.CASES

OpenAIInstrumentor().instrument(tracer_provider=spans.tracers)
records = spans.records

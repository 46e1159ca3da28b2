"""OpenTelemetry's own instrumentation of the SDK."""

from __future__ import annotations

import os

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"

from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

from . import calls, spans

PACKAGE = "opentelemetry-instrumentation-openai-v2"
CASES = calls.CHAT_CREATED  # of the others it records nothing

OpenAIInstrumentor().instrument(tracer_provider=spans.tracers, logger_provider=spans.loggers)
records = spans.records

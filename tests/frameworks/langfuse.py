"""langfuse: importing its module patches the SDK's resources."""

from __future__ import annotations

from typing import Any

from langfuse import Langfuse
from langfuse.openai import openai  # noqa: F401 - for what it does
from opentelemetry.sdk.trace import TracerProvider

from . import calls, spans
from .comparing import Known

PACKAGE = "langfuse"
CASES = calls.CASES
KNOWN = [Known("bytes", "it records nothing of with_streaming_response")]

_langfuse = Langfuse(
    public_key="unused",
    secret_key="unused",
    base_url="http://127.0.0.1:9",
    tracer_provider=TracerProvider(),
    span_exporter=spans.exporter,
)


def records() -> list[Any]:
    _langfuse.flush()
    return spans.records()

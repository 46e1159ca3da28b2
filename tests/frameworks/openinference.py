"""OpenInference: it patches the SDK's ``request``, through which demur makes each attempt."""

from __future__ import annotations

from typing import Any

from openinference.instrumentation.openai import OpenAIInstrumentor

from . import calls, spans
from .comparing import Known

PACKAGE = "openinference-instrumentation-openai"
CASES = calls.CASES

OpenAIInstrumentor().instrument(tracer_provider=spans.tracers)
records = spans.records


def _served(ran: Any) -> Any:
    return spans.served(ran, "input.value")


def _unparsed(ran: Any) -> Any:
    served = _served(ran)
    for span in served["records"]:
        span["attributes"].pop("output.value")
    return served


KNOWN = [
    Known(
        "parsed",
        "its span ends before demur has the answer parsed, and has it as the model gave it; and "
        "where that refuses, each attempt has a span",
        _unparsed,
    ),
    Known(
        "refused",
        "each attempt has a span: the refused one's, empty where it was a stream, and the "
        "fallback's, with that as the model asked for",
        _served,
    ),
]

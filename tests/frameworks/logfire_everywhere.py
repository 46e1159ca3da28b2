"""logfire without a client: it patches the SDK's ``request``, as OpenInference does."""

from __future__ import annotations

from typing import Any

import logfire

from . import calls, spans
from .comparing import Known

PACKAGE = "logfire"
CASES = calls.CASES

logfire.configure(
    send_to_logfire=False, console=False, additional_span_processors=[spans.processor]
)
logfire.instrument_openai()
records = spans.records


def _served(ran: Any) -> Any:
    return spans.served(ran, "gen_ai.request.model")


def _unwarned(ran: Any) -> Any:
    return {**_served(ran), "told": []}


KNOWN = [
    Known(
        "parsed",
        "it reads the answer before demur has it parsed, so that Pydantic does not warn; and where "
        "that refuses, each attempt has a span",
        _unwarned,
    ),
    Known("refused", "each attempt has a span, with its own model as the one asked for", _served),
]

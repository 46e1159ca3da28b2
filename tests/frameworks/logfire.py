"""logfire, given the client."""

from __future__ import annotations

from typing import Any

import logfire

from . import calls, spans

PACKAGE = "logfire"
CASES = calls.CASES
KNOWN = [calls.COPIES]

logfire.configure(
    send_to_logfire=False, console=False, additional_span_processors=[spans.processor]
)
records = spans.records


def instrument(client: Any) -> Any:
    logfire.instrument_openai(client)
    return client

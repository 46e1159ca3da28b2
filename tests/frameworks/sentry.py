"""Sentry: its integration patches the SDK's resources as it starts."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.openai import OpenAIIntegration
from sentry_sdk.transport import Transport

from . import calls
from .comparing import Known

PACKAGE = "sentry-sdk"
CASES = calls.CASES
KNOWN = [Known("left|parsed", "it has no span of what is parsed or of a stream that is left")]

_items: list[Any] = []
_transaction: Any = None


class Kept(Transport):
    def capture_envelope(self, envelope: Envelope) -> None:
        _items.extend((item.type, item.payload.json) for item in envelope.items)


sentry_sdk.init(
    dsn="http://unused@127.0.0.1:9/1",
    transport=Kept,
    traces_sample_rate=1.0,
    send_default_pii=True,
    default_integrations=False,
    integrations=[OpenAIIntegration()],
)


def begin() -> None:
    """Begin a transaction, as a server does for a request: a span that is left ends with it."""
    global _transaction
    _transaction = sentry_sdk.start_transaction(name="case")
    _transaction.__enter__()


def records() -> list[Any]:
    """All but the transaction itself: spans and errors."""
    _transaction.__exit__(None, None, None)
    sentry_sdk.flush()
    kept = [item for item in _items if item[0] != "transaction"]
    _items.clear()
    return kept

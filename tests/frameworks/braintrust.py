"""braintrust: its wrapper around a client, with its own logger for memory."""

from __future__ import annotations

from typing import Any

import braintrust
from braintrust.logger import _internal_with_memory_background_logger
from braintrust.test_helpers import init_test_logger

from . import calls

PACKAGE = "braintrust"
CASES = calls.CASES
KNOWN = [calls.COPIES]

_logging = _internal_with_memory_background_logger()
_memory = _logging.__enter__()
init_test_logger("unused")


def instrument(client: Any) -> Any:
    return braintrust.wrap_openai(client)


def records() -> list[Any]:
    return list(_memory.pop())

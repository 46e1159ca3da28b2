"""opik: it tracks a client, and can record locally."""

from __future__ import annotations

import os
from typing import Any

os.environ.update(OPIK_URL_OVERRIDE="http://127.0.0.1:9", OPIK_SENTRY_ENABLE="false")

import opik
from opik.integrations.openai import track_openai

from . import calls

PACKAGE = "opik"
CASES = calls.CASES
KNOWN = [calls.COPIES]


def instrument(client: Any) -> Any:
    return track_openai(client)


_recording = opik.record_traces_locally()
_kept = _recording.__enter__()


def records() -> list[Any]:
    global _recording, _kept
    kept = [vars(trace) for trace in _kept.trace_trees]
    _recording.__exit__(None, None, None)
    _recording = opik.record_traces_locally()
    _kept = _recording.__enter__()
    return kept

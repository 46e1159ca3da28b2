"""Verdicts as OpenTelemetry events on the request's own span.

The event and its attributes are those of the semantic conventions for generative AI. Where no span
is recording, as without a tracing SDK, nothing happens.
"""

from __future__ import annotations

from ..errors import MissingExtraError
from ..vocabulary import Attempt, Outcome
from .record import clean

EVENT = "gen_ai.evaluation.result"


class OpenTelemetrySink:
    """One event for every judged attempt. ``MissingExtraError`` without opentelemetry-api."""

    def __init__(self) -> None:
        try:
            from opentelemetry.trace import get_current_span
        except ImportError as error:
            raise MissingExtraError(
                "opentelemetry-api", "metrics", "metrics: [opentelemetry]"
            ) from error
        self._current_span = get_current_span

    def __call__(self, record: Outcome) -> None:
        span = self._current_span()
        if not span.is_recording():
            return
        for number, attempt in enumerate(record.attempts):
            if attempt.verdict is not None:
                span.add_event(EVENT, _attributes(record, attempt, served=number == record.served))


def _attributes(
    outcome: Outcome, attempt: Attempt, *, served: bool
) -> dict[str, str | float | bool]:
    verdict = attempt.verdict
    assert verdict is not None
    found: dict[str, str | float | bool | None] = {
        "gen_ai.evaluation.name": "refusal",
        "gen_ai.evaluation.score.value": verdict.score,
        "gen_ai.evaluation.score.label": verdict.label,
        "gen_ai.request.model": clean(attempt.model),
        "gen_ai.response.model": clean(attempt.served_model),
        "demur.stage": clean(verdict.stage),
        "demur.kind": verdict.kind,
        "demur.rule": clean(outcome.rule),
        "demur.ending": outcome.ending,
        "demur.served": served,
        "demur.would": outcome.would,
        "demur.started": outcome.started,
        "demur.limited": outcome.limited,
    }
    return {key: value for key, value in found.items() if value is not None}

"""An outcome as plain JSON: what every sink writes. Numbers and names, never a text."""

from __future__ import annotations

from typing import Any, Final

from ..vocabulary import Attempt, Outcome, Usage, Verdict

SCHEMA: Final = 1
"""Version of the record. A field may be added within a version; none changes its meaning."""

MOST_CHARS: Final = 200
"""Names come from callers and servers, so none is trusted to be short."""


def to_record(outcome: Outcome) -> dict[str, Any]:
    """``outcome`` as JSON's own types. Seconds are rounded to the microsecond."""
    verdict = outcome.verdict
    return {
        "schema": SCHEMA,
        "api": outcome.api,
        "stream": outcome.stream,
        "rule": clean(outcome.rule),
        "requested_model": clean(outcome.requested_model),
        "served_model": clean(outcome.served_model),
        "ending": outcome.ending,
        "shadow": outcome.shadow,
        "would": outcome.would,
        "fell_back": outcome.fell_back,
        "label": None if verdict is None else verdict.label,
        "served": outcome.served,
        "attempts": [_attempt(attempt) for attempt in outcome.attempts],
        "refused_usage": _usage(outcome.refused_usage),
        "added_seconds": round(outcome.added_seconds, 6),
        "detection_seconds": round(outcome.detection_seconds, 6),
        "held_seconds": None if outcome.held_seconds is None else round(outcome.held_seconds, 6),
        "finished": outcome.finished,
    }


def clean(name: str | None) -> str | None:
    """A name on one line: what is not printable escaped, cut at ``MOST_CHARS``."""
    if name is None:
        return None
    shown = name if len(name) <= MOST_CHARS else name[:MOST_CHARS] + "\u2026"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "target": clean(attempt.target),
        "model": clean(attempt.model),
        "served_model": clean(attempt.served_model),
        "outcome": attempt.outcome,
        "verdict": _verdict(attempt.verdict),
        "usage": _usage(attempt.usage),
        "seconds": round(attempt.seconds, 6),
        "error": clean(attempt.error),
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "label": verdict.label,
        "score": round(verdict.score, 6),
        "threshold": round(verdict.threshold, 6),
        "stage": clean(verdict.stage),
        "kind": verdict.kind,
        "degraded": clean(verdict.degraded),
    }


def _usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}

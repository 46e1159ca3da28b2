"""An outcome as plain JSON: what every sink writes. Numbers and names, never a text."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AllowInfNan, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from ..vocabulary import (
    Api,
    Attempt,
    AttemptOutcome,
    Ending,
    Kind,
    Label,
    Limited,
    Outcome,
    Started,
    Usage,
    Verdict,
)

SCHEMA: Final = 1
"""Version of the record. A field may be added within a version; none changes its meaning."""

MOST_CHARS: Final = 200
"""Names come from callers and servers, so none is trusted to be short."""

Number = Annotated[float, AllowInfNan(False)]


class UsageRecord(TypedDict):
    input_tokens: int
    output_tokens: int


class VerdictRecord(TypedDict):
    label: Label
    score: Number
    threshold: Number
    stage: str | None
    kind: Kind | None
    degraded: str | None


class SignalRecord(TypedDict):
    name: str | None
    value: str | None
    kind: Kind | None
    refuses: bool


class ContentRecord(TypedDict):
    """One choice of a response, where the policy's audit asks for content."""

    text: str
    refusal: str
    non_text: bool
    signals: list[SignalRecord]


class AttemptRecord(TypedDict):
    target: str | None
    model: str | None
    served_model: str | None
    outcome: AttemptOutcome
    verdict: VerdictRecord | None
    usage: UsageRecord | None
    seconds: Number
    error: str | None
    content: NotRequired[list[ContentRecord]]


class Record(TypedDict):
    """One request. ``time`` is when it began (UTC, ISO 8601); seconds are wall time."""

    schema: Literal[1]
    id: str | None
    time: str
    api: Api
    stream: bool
    policy: str | None
    rule: str | None
    metadata: dict[str, str]
    requested_model: str | None
    served_model: str | None
    ending: Ending
    shadow: bool
    would: Ending | None
    fell_back: bool
    label: Label | None
    served: int | None
    attempts: list[AttemptRecord]
    refused_usage: UsageRecord
    added_seconds: Number
    detection_seconds: Number
    held_seconds: Number | None
    finished: bool
    started: NotRequired[Started]
    limited: NotRequired[Limited]
    late: NotRequired[bool]
    content: Literal["none", "redacted", "full"]


def json_schema() -> dict[str, Any]:
    """The record's JSON Schema, as published in ``configs/audit.schema.json``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TypeAdapter(Record).json_schema(),
        "title": "demur audit record",
    }


def to_record(outcome: Outcome) -> dict[str, Any]:
    """``outcome`` as a ``Record``, in JSON's own types. Seconds are rounded to the microsecond."""
    verdict = outcome.verdict
    record: Record = {
        "schema": SCHEMA,
        "id": clean(outcome.id),
        "time": _iso(time.time() if outcome.time is None else outcome.time),
        "api": outcome.api,
        "stream": outcome.stream,
        "policy": outcome.policy,
        "rule": clean(outcome.rule),
        "metadata": {_name(key): _name(value) for key, value in outcome.metadata},
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
        "content": "none",
    }
    if outcome.started is not None:
        record["started"] = outcome.started
    if outcome.limited is not None:
        record["limited"] = outcome.limited
    if outcome.late:
        record["late"] = True
    return cast("dict[str, Any]", record)


def clean(name: str | None) -> str | None:
    """A name on one line: what is not printable escaped, cut at ``MOST_CHARS``."""
    return None if name is None else _name(name)


def _name(name: str) -> str:
    if len(name) <= MOST_CHARS and name.isprintable():
        return name
    shown = name if len(name) <= MOST_CHARS else name[:MOST_CHARS] + "\u2026"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _attempt(attempt: Attempt) -> AttemptRecord:
    return {
        "target": clean(attempt.target),
        "model": clean(attempt.model),
        "served_model": clean(attempt.served_model),
        "outcome": attempt.outcome,
        "verdict": _verdict(attempt.verdict),
        "usage": None if attempt.usage is None else _usage(attempt.usage),
        "seconds": round(attempt.seconds, 6),
        "error": clean(attempt.error),
    }


def _verdict(verdict: Verdict | None) -> VerdictRecord | None:
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


def _usage(usage: Usage) -> UsageRecord:
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}

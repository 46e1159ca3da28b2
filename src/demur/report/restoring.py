"""An audit record back as the outcome it was written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from ..errors import InputError
from ..sinks.record import SCHEMA, AttemptRecord, ContentRecord, Record, VerdictRecord, clean
from ..vocabulary import LABELS, Attempt, Evidence, Outcome, Signal, Usage, Verdict

Content = Literal["none", "redacted", "full"]

_RECORD: Final = TypeAdapter(Record)
_MOST_TOKENS: Final = 10**15
_MOST_SECONDS: Final = 10**15


@dataclass(frozen=True, slots=True)
class Entry:
    """One record. ``content`` says how much of what was judged its attempts' evidence holds."""

    outcome: Outcome
    content: Content = "none"


def restored(record: Any, where: str) -> Entry:
    """Raises ``InputError``, naming ``where``, for what is no audit record of a known version."""
    if not isinstance(record, Mapping) or "schema" not in record or "attempts" not in record:
        raise InputError(f"{where}: no audit record; give a log written by demur's audit sink")
    if record["schema"] != SCHEMA:
        raise InputError(
            f"{where}: a record of version {record['schema']!r}, and this demur reads version "
            f"{SCHEMA}; use the demur that wrote it, or a newer one"
        )
    try:
        # Fields that a later demur has added are left out here.
        known = _RECORD.validate_python({"content": "none", **record}, strict=True)
        return Entry(_outcome(known), known["content"])
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = clean(".".join(map(str, fault["loc"])))
        problem = f"{place}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
        raise InputError(f"{where}: a damaged audit record ({problem}); remove it") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: a damaged audit record ({error}); remove it") from error


def _outcome(record: Record) -> Outcome:
    attempts = tuple(_attempt(attempt) for attempt in record["attempts"])
    served, held = record["served"], record["held_seconds"]
    if served is not None and not 0 <= served < len(attempts):
        raise ValueError(f"served: there is no attempt {served}")
    return Outcome(
        api=record["api"],
        requested_model=_name(record["requested_model"], "requested_model"),
        ending=record["ending"],
        attempts=attempts,
        served=served,
        rule=record["rule"],
        shadow=record["shadow"],
        would=record["would"],
        stream=record["stream"],
        added_seconds=_seconds(record["added_seconds"], "added_seconds"),
        detection_seconds=_seconds(record["detection_seconds"], "detection_seconds"),
        held_seconds=None if held is None else _seconds(held, "held_seconds"),
        finished=record["finished"],
        policy=record["policy"],
        metadata=tuple(record["metadata"].items()),
        started=record.get("started"),
        limited=record.get("limited"),
        late=record.get("late", False),
        id=record["id"],
        time=datetime.fromisoformat(record["time"]).timestamp(),
    )


def _attempt(record: AttemptRecord) -> Attempt:
    usage = record["usage"]
    if usage is not None and max(usage["input_tokens"], usage["output_tokens"]) > _MOST_TOKENS:
        raise ValueError("usage: more tokens than there can be")
    return Attempt(
        target=_name(record["target"], "target"),
        model=_name(record["model"], "model"),
        outcome=record["outcome"],
        verdict=_verdict(record["verdict"]),
        served_model=record["served_model"],
        usage=None if usage is None else Usage(**usage),
        seconds=_seconds(record["seconds"], "seconds"),
        error=record["error"],
        evidence=tuple(_evidence(choice) for choice in record.get("content", ())),
    )


def _verdict(record: VerdictRecord | None) -> Verdict | None:
    if record is None:
        return None
    if record["label"] not in LABELS:
        raise ValueError(f"verdict: {record['label']!r} is no label of a whole response")
    if not 0 <= record["score"] <= 1:
        raise ValueError(f"verdict: the score {record['score']} is not in [0, 1]")
    return Verdict(
        label=record["label"],
        score=record["score"],
        stage=_name(record["stage"], "stage"),
        threshold=record["threshold"],
        kind=record["kind"],
        degraded=record["degraded"],
    )


def _evidence(record: ContentRecord) -> Evidence:
    signals = (
        Signal(
            name=_name(signal["name"], "signal"),
            value=_name(signal["value"], "signal"),
            kind=signal["kind"],
            refuses=signal["refuses"],
        )
        for signal in record["signals"]
    )
    return Evidence(
        text=record["text"],
        refusal=record["refusal"],
        signals=tuple(signals),
        non_text=record["non_text"],
    )


def _seconds(seconds: float, field: str) -> float:
    """They are added up: a sum has to be a number, too."""
    if abs(seconds) > _MOST_SECONDS:
        raise ValueError(f"{field}: {seconds} are no seconds that anything can take")
    return seconds


def _name(name: str | None, field: str) -> str:
    if name is None:
        raise ValueError(f"{field}: null where a name must stand")
    return name

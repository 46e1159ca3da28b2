"""An audit record back as the outcome it was written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ..errors import InputError
from ..sinks.record import SCHEMA
from ..vocabulary import Attempt, Evidence, Outcome, Signal, Usage, Verdict

Content = Literal["none", "redacted", "full"]


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
        return Entry(_outcome(record), record.get("content", "none"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: a damaged audit record ({error!r}); remove it") from error


def _outcome(record: Mapping[str, Any]) -> Outcome:
    attempts = tuple(_attempt(attempt) for attempt in record["attempts"])
    served = record["served"]
    if served is not None and not 0 <= served < len(attempts):
        raise ValueError(f"served: {served}")
    return Outcome(
        api=record["api"],
        requested_model=record["requested_model"],
        ending=record["ending"],
        attempts=attempts,
        served=served,
        rule=record["rule"],
        shadow=record["shadow"],
        would=record["would"],
        stream=record["stream"],
        added_seconds=float(record["added_seconds"]),
        detection_seconds=float(record["detection_seconds"]),
        held_seconds=record["held_seconds"],
        finished=record["finished"],
        policy=record["policy"],
        metadata=tuple(record["metadata"].items()),
        started=record.get("started"),
        limited=record.get("limited"),
        id=record["id"],
        time=datetime.fromisoformat(record["time"]).timestamp(),
    )


def _attempt(record: Mapping[str, Any]) -> Attempt:
    usage, verdict = record["usage"], record["verdict"]
    return Attempt(
        target=record["target"],
        model=record["model"],
        outcome=record["outcome"],
        verdict=None if verdict is None else Verdict(**verdict),
        served_model=record["served_model"],
        usage=None if usage is None else Usage(**usage),
        seconds=float(record["seconds"]),
        error=record["error"],
        evidence=tuple(_evidence(choice) for choice in record.get("content", ())),
    )


def _evidence(record: Mapping[str, Any]) -> Evidence:
    return Evidence(
        text=record["text"],
        refusal=record["refusal"],
        signals=tuple(Signal(**signal) for signal in record["signals"]),
        non_text=record["non_text"],
    )

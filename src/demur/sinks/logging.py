"""Outcomes as lines of the standard library's logging."""

from __future__ import annotations

import json
import logging
from typing import Any

from ..vocabulary import Outcome
from .record import to_record

_log = logging.getLogger("demur")


class LoggingSink:
    """One INFO line an outcome on the logger ``demur``; the whole record is its ``extra["demur"]``.

    The line is made of ``key=value`` pairs. A value that is no plain word is quoted as JSON, so a
    model's name cannot forge another pair or another line.
    """

    def __call__(self, record: Outcome) -> None:
        if _log.isEnabledFor(logging.INFO):
            fields = to_record(record)
            _log.info("%s", _line(record, fields), extra={"demur": fields})


def _line(outcome: Outcome, fields: dict[str, Any]) -> str:
    verdict = outcome.verdict
    pairs: dict[str, Any] = {
        "ending": fields["ending"],
        "label": fields["label"],
        "score": None if verdict is None else f"{verdict.score:.3f}",
        "stage": None if verdict is None else verdict.stage,
        "kind": None if verdict is None else verdict.kind,
        "rule": fields["rule"],
        "requested": fields["requested_model"],
        "served": fields["served_model"],
        "attempts": len(outcome.attempts),
        "added_ms": f"{outcome.added_seconds * 1000:.1f}",
        "would": fields["would"],
        "started": outcome.started,
        "limited": outcome.limited,
        "late": outcome.late or None,
        "degraded": None if verdict is None else verdict.degraded,
    }
    return " ".join(f"{key}={_value(value)}" for key, value in pairs.items() if value is not None)


def _value(value: object) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and text and not set(text) & set(' ="\\')
    return text if plain else json.dumps(text)

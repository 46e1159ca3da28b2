"""The audit log: one record a request, written off the request's path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..policy.schema import Audit
from ..vocabulary import Evidence, Outcome
from .background import CLOSE_SECONDS, Background
from .database import DatabaseWriter, url_of
from .lines import LinesWriter
from .record import ContentRecord, clean, to_record
from .redaction import Redactor

Content = Callable[[Evidence], ContentRecord]


class AuditSink:
    """Writes every outcome to where ``audit`` says; see ``Background`` for what is promised.

    Raises ``PolicyError`` or ``MissingExtraError`` where nothing could ever be written there.
    """

    def __init__(self, audit: Audit) -> None:
        content = _CONTENT[audit.content]()
        kind = audit.content
        writer = _writer(audit)

        def write(batch: Sequence[Outcome]) -> None:
            writer([{**_record(outcome, content), "content": kind} for outcome in batch])

        name = f"audit log {audit.path or 'in the database'}"
        self._background: Background[Outcome] = Background(
            name, write, capacity=audit.queue, at_end=writer.close
        )

    def __call__(self, record: Outcome) -> None:
        self._background.put(record)

    @property
    def lost(self) -> int:
        """Records dropped because the queue was full, or that could not be written."""
        return self._background.lost

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        return self._background.flush(seconds)

    def close(self) -> None:
        self._background.close()


def _writer(audit: Audit) -> LinesWriter | DatabaseWriter:
    if audit.path is not None:
        return LinesWriter(audit.path, max_bytes=audit.max_bytes, keep=audit.keep)
    return DatabaseWriter(url_of(audit.dsn, audit.dsn_env))


def _record(outcome: Outcome, content: Content | None) -> dict[str, Any]:
    record = to_record(outcome)
    if content is not None:
        for attempt, shown in zip(outcome.attempts, record["attempts"], strict=True):
            shown["content"] = [content(evidence) for evidence in attempt.evidence]
    return record


def _full() -> Content:
    def show(evidence: Evidence) -> ContentRecord:
        return _choice(evidence, evidence.text, evidence.refusal)

    return show


def _redacted() -> Content:
    redact = Redactor()

    def show(evidence: Evidence) -> ContentRecord:
        return _choice(evidence, redact(evidence.text), redact(evidence.refusal))

    return show


def _choice(evidence: Evidence, text: str, refusal: str) -> ContentRecord:
    return {
        "text": text,
        "refusal": refusal,
        "non_text": evidence.non_text,
        "signals": [
            {
                "name": clean(signal.name),
                "value": clean(signal.value),
                "kind": signal.kind,
                "refuses": signal.refuses,
            }
            for signal in evidence.signals
        ],
    }


_CONTENT: dict[str, Callable[[], Content | None]] = {
    "none": lambda: None,
    "redacted": _redacted,
    "full": _full,
}

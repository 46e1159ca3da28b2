"""An audit log as one page of HTML that needs nothing else.

The page holds a row of numbers for every request, and its script draws from them, so filters work
without a server. Names from the log reach the page as JSON only and are shown as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import resources
from typing import Any, Final

from ..vocabulary import Attempt, Outcome
from .tallies import Prices

LABELS: Final = ("normal", "partial", "refusal", "none")
ENDINGS: Final = ("accepted", "fell_back", "exhausted", "failed", "abandoned")
KINDS: Final = ("policy", "capability", "scope", "filter", "empty", "unknown")
MOST_INCIDENTS: Final = 5000


class Names:
    """Numbers for names, in the order they were met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def all(self) -> list[str]:
        return list(self._numbers)


class Sheet:
    """What the page's script reads: columns for all requests, and the incidents among them.

    Of very many incidents the last ``MOST_INCIDENTS`` are listed; the columns count them all.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._models, self._rules, self._hops = Names(), Names(), Names()
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._incidents: list[dict[str, Any]] = []
        self._dropped = 0

    @property
    def rows(self) -> int:
        return len(self._columns["time"])

    def add(self, outcome: Outcome) -> None:
        row = self._row(outcome)
        for name, value in row.items():
            self._columns[name].append(value)
        if row["first"] in (1, 2) or row["ending"] > 0 or outcome.would is not None:
            self._incidents.append(_incident(outcome, self.rows - 1))
        if len(self._incidents) > 2 * MOST_INCIDENTS:
            self._dropped += MOST_INCIDENTS
            del self._incidents[:MOST_INCIDENTS]

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        first = outcome.attempts[0].verdict if outcome.attempts else None
        added = outcome.attempts[1:]
        hops = zip(outcome.attempts, added, strict=False)
        return {
            "time": round(outcome.time or 0.0),
            "model": self._models.number(outcome.requested_model),
            "rule": self._rules.number(outcome.rule or "(none)"),
            "first": LABELS.index(first.label if first else "none"),
            "served": LABELS.index(outcome.verdict.label if outcome.verdict else "none"),
            "ending": ENDINGS.index(outcome.ending),
            "kind": _kind(outcome),
            "score": None if first is None else round(first.score, 3),
            "threshold": None if first is None else round(first.threshold, 3),
            "added": round(outcome.added_seconds, 4),
            "held": None if outcome.held_seconds is None else round(outcome.held_seconds, 4),
            "tokens": sum(a.usage.total_tokens for a in added if a.usage is not None),
            "cost": round(sum(self._prices.of(attempt) for attempt in added), 6),
            "hops": [self._hop(before, attempt) for before, attempt in hops],
        }

    def _hop(self, before: Attempt, attempt: Attempt) -> list[int]:
        pair = f"{before.model} \u2192 {attempt.model}"
        how = {"accepted": 0, "refused": 1}.get(attempt.outcome, 2)
        return [self._hops.number(pair), how]

    def data(self, title: str) -> dict[str, Any]:
        listed = self._incidents[-MOST_INCIDENTS:]
        return {
            "title": title,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "models": self._models.all,
            "rules": self._rules.all,
            "hops": self._hops.all,
            "labels": LABELS,
            "endings": ENDINGS,
            "kinds": KINDS,
            "priced": bool(self._prices.models),
            "columns": self._columns,
            "incidents": listed,
            "unlisted": self._dropped + len(self._incidents) - len(listed),
        }


_COLUMNS = (
    "time", "model", "rule", "first", "served", "ending", "kind",
    "score", "threshold", "added", "held", "tokens", "cost", "hops",
)  # fmt: skip


def _kind(outcome: Outcome) -> int | None:
    """Why the first attempt refused; ``None`` if it did not."""
    first = outcome.attempts[0].verdict if outcome.attempts else None
    if first is None or first.label != "refusal":
        return None
    return KINDS.index(first.kind or "unknown")


def _incident(outcome: Outcome, row: int) -> dict[str, Any]:
    return {
        "row": row,
        "id": outcome.id or "",
        "path": [
            [
                attempt.model,
                attempt.verdict.label if attempt.verdict else attempt.error or "none",
                None if attempt.verdict is None else round(attempt.verdict.score, 3),
            ]
            for attempt in outcome.attempts
        ],
        "would": outcome.would or "",
    }


def render(outcomes: Iterable[Outcome], prices: Prices, title: str) -> tuple[str, int]:
    """The page, and how many requests it is about."""
    sheet = Sheet(prices)
    for outcome in outcomes:
        sheet.add(outcome)
    data = json.dumps(sheet.data(title), separators=(",", ":"), allow_nan=False)
    page = _asset("page.html")
    for mark, text in (
        ("/*style*/", _asset("page.css")),
        ("/*script*/", _asset("charts.js") + _asset("page.js")),
        ("/*data*/", data.replace("<", "\\u003c")),
    ):
        page = page.replace(mark, text, 1)
    return page, sheet.rows


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")

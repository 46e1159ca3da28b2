"""Outcomes as Prometheus metrics, in the process's own registry.

Whatever exposes that registry (LiteLLM's ``/metrics``, ``prometheus_client.start_http_server``)
shows them. Labels are bounded: models beyond the first ``MOST_MODELS`` seen count as ``other``.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import MissingExtraError
from ..policy.schema import Policy
from ..vocabulary import Attempt, Outcome
from .background import records_lost, watch_losses
from .record import clean

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

MOST_MODELS: Final = 100
OTHER: Final = "other"

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_FINE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2.0)


class PrometheusSink:
    """Counts responses and fallbacks; observes what demur cost in seconds.

    Raises ``MissingExtraError`` where prometheus-client is not installed.
    """

    def __init__(self) -> None:
        self._metrics = _metrics()

    def __call__(self, record: Outcome) -> None:
        metrics = self._metrics
        for number, attempt in enumerate(record.attempts):
            if attempt.outcome != "failed":
                metrics.count_response(attempt, action_of(record, number))
            if number:
                metrics.count_fallback(record.attempts[number - 1].model, attempt)
            elif record.moved:
                metrics.count_fallback(record.requested_model, attempt)
        if record.started or record.limited or metrics.breakers:
            metrics.note_standing(record)
        metrics.detection.observe(record.detection_seconds)
        metrics.added.observe(record.added_seconds)
        if record.held_seconds is not None:
            metrics.hold_back.observe(record.held_seconds)


def note_reload(policy: Policy, outcome: Literal["done", "failed"]) -> None:
    """Count a new version of a policy file; ``policy`` is the one in use from now on."""
    if "prometheus" in policy.metrics:
        _metrics().reloads.labels(outcome).inc()


def action_of(outcome: Outcome, number: int) -> str:
    """What became of a response: served, replaced, blocked, left; ``shadow`` if only recorded."""
    if number == outcome.served:
        return "served" if outcome.would is None else "shadow"
    if outcome.attempts[number].outcome == "abandoned":
        return "left"
    return "replaced" if outcome.served is not None else "blocked"


def _closes(outcome: Outcome) -> bool:
    """Whether this was a probe that was answered."""
    accepted = bool(outcome.attempts) and outcome.attempts[0].outcome == "accepted"
    return outcome.started == "probe" and accepted and outcome.would is None


class _Metrics:
    """One process has one of each. Children are kept: finding one by its labels is slow."""

    def __init__(self) -> None:
        try:
            from prometheus_client import Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingExtraError(
                "prometheus-client", "metrics", "metrics: [prometheus]"
            ) from error
        self._responses: Counter = Counter(
            "demur_responses",
            "Responses judged, by what demur made of them.",
            ("model", "label", "source", "action"),
        )
        self._fallbacks: Counter = Counter(
            "demur_fallbacks", "Calls to fallback models.", ("from", "to", "outcome")
        )
        self.detection: Histogram = Histogram(
            "demur_detection_seconds", "Detection, per request.", buckets=_FINE_SECONDS
        )
        self.hold_back: Histogram = Histogram(
            "demur_hold_back_seconds", "How long a stream's beginning was held.", buckets=_SECONDS
        )
        self.added: Histogram = Histogram(
            "demur_added_seconds", "Time a caller waited because of demur.", buckets=_SECONDS
        )
        # What a worker lost stays lost when it ends. No function: no other process can call it.
        lost = Gauge(
            "demur_audit_lost_records",
            "Audit records that were dropped or not written.",
            multiprocess_mode="sum",
        )
        lost.inc(records_lost())
        watch_losses(lost.inc)
        self.reloads: Counter = Counter(
            "demur_policy_reloads", "New versions of a policy file, used or not.", ("outcome",)
        )
        self._open: Gauge = Gauge(
            "demur_breaker_open",
            "1 while requests start at a fallback, as the model refuses too often.",
            ("rule", "model"),
            multiprocess_mode="mostrecent",
        )
        self._starts: Counter = Counter(
            "demur_starts",
            "Requests that began otherwise than at the requested model, or as its probe.",
            ("rule", "reason"),
        )
        self._exceeded: Counter = Counter(
            "demur_budget_exceeded", "Refusals that no budget had room to retry.", ("rule",)
        )
        self._children: dict[tuple[str, ...], Any] = {}
        self._models: set[str] = set()
        self.breakers: set[tuple[str, str]] = set()

    def count_response(self, attempt: Attempt, action: str) -> None:
        verdict = attempt.verdict
        label, stage = ("none", "none") if verdict is None else (verdict.label, verdict.stage)
        self._count(self._responses, "r", attempt.model, label, stage, action)

    def count_fallback(self, before: str, attempt: Attempt) -> None:
        self._count(self._fallbacks, "f", before, attempt.model, attempt.outcome)

    def note_standing(self, record: Outcome) -> None:
        """What breakers, conversations and budgets made of the request, in a few policies."""
        rule = clean(record.rule) or ""
        if record.started is not None:
            self._starts.labels(rule, record.started).inc()
        if record.limited == "budget":
            self._exceeded.labels(rule).inc()
        breaker = rule, self._bounded(record.requested_model)
        if record.started in ("breaker", "probe"):
            self.breakers.add(breaker)
            self._open.labels(*breaker).set(0 if _closes(record) else 1)
        elif record.started is None and record.limited != "rights" and breaker in self.breakers:
            self._open.labels(*breaker).set(0)

    def _count(self, counter: Counter, *key: str) -> None:
        child = self._children.get(key)
        if child is None:
            labels = [self._bounded(key[1]), *key[2:]]
            if key[0] == "f":
                labels[1] = self._bounded(key[2])
            child = counter.labels(*labels)
            if OTHER not in labels:
                self._children[key] = child
        child.inc()

    def _bounded(self, model: str) -> str:
        if model not in self._models and len(self._models) >= MOST_MODELS:
            return OTHER
        self._models.add(model)
        return clean(model) or OTHER


_making = Lock()


def _metrics() -> _Metrics:
    with _making:  # the registry takes no metric twice, and a cache alone would make two at once
        return _made()


@cache
def _made() -> _Metrics:
    return _Metrics()

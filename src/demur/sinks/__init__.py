"""Where outcomes are written. A sink that fails never fails a request."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import iscoroutinefunction
from logging import getLogger

from ..errors import PolicyError
from ..policy.schema import Policy
from .audit import AuditSink
from .background import flush
from .fan_out import Sink, Sinks
from .logging import LoggingSink
from .opentelemetry import OpenTelemetrySink
from .prometheus import PrometheusSink, note_reload
from .record import to_record

_log = getLogger("demur")


def sinks_for(policy: Policy, own: Iterable[Sink] = ()) -> Sinks:
    """The log, what else the policy names, and the caller's ``own``.

    Raises ``PolicyError`` or ``MissingExtraError`` for a sink that could never work.
    """
    if not isinstance(own, Iterable) or not all(map(callable, own := tuple(own))):
        raise PolicyError(f"sinks must be a list of what takes an Outcome, not {own!r}")
    if awaited := [sink for sink in own if _is_awaited(sink)]:
        raise PolicyError(
            f"sinks are called, not awaited, so {awaited[0]!r} would do nothing; give a plain "
            "function, which may put the outcome into a queue of yours"
        )
    if own and not any("log" in rule.actions for rule in policy.rules):
        _log.warning("demur: the sinks are never called, as no rule has the action log")
    sinks: list[Sink] = [LoggingSink()]
    if policy.audit is not None:
        sinks.append(AuditSink(policy.audit))
    if "prometheus" in policy.metrics:
        sinks.append(PrometheusSink())
    if "opentelemetry" in policy.metrics:
        sinks.append(OpenTelemetrySink())
    return Sinks([*sinks, *own])


def _is_awaited(sink: Sink) -> bool:
    return iscoroutinefunction(sink) or iscoroutinefunction(type(sink).__call__)


__all__ = [
    "AuditSink",
    "LoggingSink",
    "OpenTelemetrySink",
    "PrometheusSink",
    "Sink",
    "Sinks",
    "flush",
    "note_reload",
    "sinks_for",
    "to_record",
]

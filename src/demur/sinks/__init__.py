"""Where outcomes are written. A sink that fails never fails a request."""

from __future__ import annotations

from ..policy.schema import Policy
from .audit import AuditSink
from .background import flush_all
from .fan_out import Sink, Sinks
from .logging import LoggingSink
from .opentelemetry import OpenTelemetrySink
from .prometheus import PrometheusSink, note_reload
from .record import to_record


def sinks_for(policy: Policy) -> Sinks:
    """The log, and what else the policy names.

    Raises ``PolicyError`` or ``MissingExtraError`` for a sink that could never work.
    """
    sinks: list[Sink] = [LoggingSink()]
    if policy.audit is not None:
        sinks.append(AuditSink(policy.audit))
    if "prometheus" in policy.metrics:
        sinks.append(PrometheusSink())
    if "opentelemetry" in policy.metrics:
        sinks.append(OpenTelemetrySink())
    return Sinks(sinks)


__all__ = [
    "AuditSink",
    "LoggingSink",
    "OpenTelemetrySink",
    "PrometheusSink",
    "Sink",
    "Sinks",
    "flush_all",
    "note_reload",
    "sinks_for",
    "to_record",
]

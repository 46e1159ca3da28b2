"""Where outcomes are written. A sink that fails never fails a request."""

from __future__ import annotations

from ..policy.schema import Policy
from .audit import AuditSink
from .fan_out import Sink, Sinks
from .logging import LoggingSink
from .record import to_record


def sinks_for(policy: Policy) -> Sinks:
    """The log, and the audit file where the policy names one."""
    sinks: list[Sink] = [LoggingSink()]
    if policy.audit is not None:
        sinks.append(AuditSink(policy.audit.path))
    return Sinks(sinks)


__all__ = ["AuditSink", "LoggingSink", "Sink", "Sinks", "sinks_for", "to_record"]

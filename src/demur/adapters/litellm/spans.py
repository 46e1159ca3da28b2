"""A request's span, as the rows of its single attempts are given it.

With the first success that LiteLLM logs of a request it ends the request's span, at that success's
own end. Imported only where LiteLLM has such a span: OpenTelemetry need not be installed.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NonRecordingSpan


def left_open(span: Any) -> NonRecordingSpan:
    """A parent for the spans of an attempt which does not end the request."""
    return NonRecordingSpan(span.get_span_context())


class EndsNow(NonRecordingSpan):
    """A parent for those of an attempt which does, but ended before others did."""

    def __init__(self, span: Any) -> None:
        super().__init__(span.get_span_context())
        self._span = span

    @property
    def name(self) -> Any:
        return self._span.name

    def is_recording(self) -> bool:
        return bool(self._span.is_recording())

    def set_attribute(self, key: str, value: Any) -> None:
        self._span.set_attribute(key, value)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self._span.set_status(status, description)

    def end(self, end_time: int | None = None) -> None:
        self._span.end()

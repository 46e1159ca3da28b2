"""Who is logged, and as what, once it is decided which stream a caller gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio.to_thread
import litellm
from litellm.integrations.custom_guardrail import CustomGuardrail

from ...vocabulary import Attempt, Outcome
from .background import Background
from .exchange import Exchange
from .headers import show_in_stream
from .marks import mark, marks_of, marks_of_served
from .rows import Row, counted, leave_request_open, put_marks
from .stream import Source, StreamPort

_log = logging.getLogger("demur")


class Settlement:
    """For one streamed request. LiteLLM logs the stream it opened itself, unless that was cut."""

    def __init__(
        self,
        guardrail: CustomGuardrail,
        background: Background,
        found: Exchange,
        port: StreamPort,
        request: dict[str, Any],
        response: Any,
    ) -> None:
        self._guardrail = guardrail
        self._background = background
        self._found = found
        self._port = port
        self._request = request
        self._response = response
        self._settled: set[int] = set()

    def released(self, served: Source, first: Any, outcome: Outcome) -> None:
        """``served`` is what the caller gets; ``first`` is its first item."""
        if self._found.plan.tags:
            show_in_stream(self._response, served.native, first, outcome)
        self._settled.add(served.attempt)
        if served is self._port.first:
            mark(self._guardrail, self._found, self._request)
        else:
            put_marks(served.logging_obj, marks_of_served(self._guardrail, self._found))
            self._leave(served)
        self._drop(outcome)

    def ended(self) -> None:
        """The caller has got the stream, or has left: what goes wrong now is only logged."""
        try:
            self._end()
        except Exception as error:  # noqa: BLE001 - the fail-open edge
            _log.warning("demur: a stream was not settled: %s", type(error).__name__)

    def _end(self) -> None:
        outcome = self._found.outcome
        first = self._port.first
        if outcome is None or first is None or outcome.served in (first.attempt, None):
            mark(self._guardrail, self._found, self._request)
        if outcome is not None:
            self._drop(outcome)
        served = self._port.served
        if served is not None and served is not first:
            self._finish(served)

    def _finish(self, served: Source) -> None:
        """What the proxy does at the end of a stream, it does for the one it has opened."""
        # Before a guardrail LiteLLM puts a shell that reads the stream's attributes and sets none.
        own = getattr(self._response, "_source", self._response)
        if hasattr(own, "completed_response"):
            own.completed_response = getattr(served.native, "completed_response", None)
        if served.logging_obj is not None and not served.ended and not served.failed:
            self._background.run(self._write_cut(served.native, Row(served.logging_obj, None)))

    async def _write_cut(self, native: Any, row: Row) -> None:
        """Log what a stream had said when its reader left, if it had said anything."""
        chunks = list(getattr(native, "chunks", None) or ())
        if chunks:
            await row.write_counted(partial(_so_far, chunks, row.model, self._request))
            return
        event = await anyio.to_thread.run_sync(_unfinished, native)
        if event is not None:
            row.response = event
            await row.write()

    def _drop(self, outcome: Outcome) -> None:
        for source in self._port.opened:
            if source.attempt in self._settled or source.attempt >= len(outcome.attempts):
                continue
            attempt = outcome.attempts[source.attempt]
            self._settled.add(source.attempt)
            if outcome.ending != "abandoned":  # else its row is the last one of the request
                leave_request_open(source.logging_obj)
            self._log_dropped(source, attempt)

    def _log_dropped(self, source: Source, attempt: Attempt) -> None:
        marks = marks_of(self._guardrail, self._found.plan, attempt.verdict)
        put_marks(source.logging_obj, marks)
        if not source.claimed:
            self._leave(source)
            return
        row = Row(source.logging_obj, None, end=source.read_at)
        text = source.held_text(self._found.surface)
        response = counted(self._request, row.model, text, attempt.usage)
        self._background.run(row.write_counted(response))

    def _leave(self, source: Source) -> None:
        """LiteLLM logs the stream itself, now if it has ended."""
        work = source.parking.leave()
        if work is not None:
            self._background.run(work)


def _unfinished(native: Any) -> Any:
    """The event LiteLLM itself logs of a Responses stream whose reader left, with its usage."""
    try:
        from litellm.responses.streaming_iterator import (
            partial_responses_incomplete_event_on_disconnect as event_of,
        )
    except ImportError:
        return None
    return event_of(native)


def _so_far(chunks: list[Any], model: str, request: Mapping[str, Any]) -> litellm.ModelResponse:
    """A response with the usage of what a stream had said when its reader left."""
    built = litellm.stream_chunk_builder(chunks, request.get("messages"))
    return litellm.ModelResponse(model=model, usage=getattr(built, "usage", None))

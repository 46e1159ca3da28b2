"""Rows in the gateway's log for attempts that LiteLLM would log as free, or not at all.

LiteLLM logs an attempt that was raised on as a failure without cost, and only the first of a
request; a stream that was dropped it does not log. Budgets, rate limits and the spend log count
successes, and to its provider a refused attempt was one: so it is logged as one, under a copy of
its logging object, as LiteLLM itself does for requests of several billed calls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import anyio.to_thread
import litellm
from litellm.litellm_core_utils.internal_call_metadata import without_budget_reservation

from ...vocabulary import Usage
from .spend import BUCKETS, logged, merge_tags

Marks = Mapping[str, list[Any]]
"""Entries for a row's metadata; ``tags`` are added to those there are."""

_STREAM: Final = "has_dispatched_final_stream_success"
_SAID: Final = ("content", "text", "arguments", "output")
_FAILURES: Final = ("async_failure", "sync_failure")
_SPAN: Final = "litellm_parent_otel_span"


class Row:
    """What is to be logged of one attempt. Nothing said or logged later changes it.

    ``response`` is the attempt's own, ``number`` counts those of a request. It has ended at
    ``end``, if not now.
    """

    def __init__(
        self, logging_obj: Any, response: Any, number: int = 0, *, end: datetime | None = None
    ) -> None:
        self.response = response
        self._number = number
        self._end = end or datetime.now()
        self._attempt = copy.copy(logging_obj)
        details = dict(logging_obj.model_call_details)
        params = dict(details.get("litellm_params") or {})
        params.update({name: dict(params.get(name) or {}) for name in BUCKETS})
        details.pop(_STREAM, None)
        self._attempt.model_call_details = {**details, "litellm_params": params}

    @property
    def model(self) -> str:
        return str(self._attempt.model_call_details.get("model") or "")

    def mark(self, marks: Marks) -> None:
        put_marks(self._attempt, marks)

    def end_request_now(self) -> None:
        """Have the row end its request in a trace as it is written, later than itself."""
        for metadata, span in _spans(self._attempt):
            from .spans import EndsNow

            metadata[_SPAN] = EndsNow(span)

    def set_aside(self) -> None:
        """Have the row settle nothing of its request, what is reserved or a span: another one will.

        It gets an identifier of its own, of the form LiteLLM has for them.
        """
        details = self._attempt.model_call_details
        params = details["litellm_params"]
        params.update({name: without_budget_reservation(params[name]) for name in BUCKETS})
        leave_request_open(self._attempt)
        own = f"{details.get('litellm_call_id')}-attempt-{self._number}"
        self._attempt.litellm_call_id = details["litellm_call_id"] = own

    async def write(self) -> None:
        """Log it. As for every success, budgets and rate limits count it."""
        await self._attempt.dispatch_success_handlers(
            self.response, **self._times(), prefer_async_handlers=True
        )

    async def write_counted(self, response: Callable[[], Any]) -> None:
        """``write``, with a response that takes some counting: in a thread."""
        self.response = await anyio.to_thread.run_sync(response)
        await self.write()

    def write_blocking(self, response: Callable[[], Any]) -> None:
        """The same for blocking code, in a thread of its own."""
        self._attempt.success_handler(response(), **self._times())

    def _times(self) -> dict[str, Any]:
        began = self._attempt.model_call_details.get("api_call_start_time")
        return {"start_time": began, "end_time": self._end}


def put_marks(logging_obj: Any, marks: Marks) -> None:
    """Put ``marks`` where LiteLLM will look for them when it logs."""
    for metadata in logged(logging_obj):
        merge_tags(metadata, marks["tags"])
        metadata.update({name: value for name, value in marks.items() if name != "tags"})


def leave_request_open(logging_obj: Any) -> None:
    """Have LiteLLM not end the request in a trace where it logs this attempt: it goes on."""
    for metadata, span in _spans(logging_obj):
        from .spans import left_open

        metadata[_SPAN] = left_open(span)


def _spans(logging_obj: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    for metadata in logged(logging_obj):
        span = metadata.get(_SPAN)
        if hasattr(span, "get_span_context"):
            yield metadata, span


def keep_out_of_the_log(logging_obj: Any) -> None:
    """Have LiteLLM not log this call's success: its row is written here, or is another call's."""
    claim = getattr(logging_obj, "claim_async_success_log", None)
    if claim is not None:
        claim()
        logging_obj.model_call_details["has_logged_sync_success"] = True


def keep_out_of_the_cache(data: dict[str, Any]) -> None:
    """Have LiteLLM's cache not take what is served for the answer of the model called last."""
    data["cache"] = {**(data.get("cache") or {}), "no-store": True}


def keep_stream_out_of_the_log(logging_obj: Any) -> None:
    """Have LiteLLM not log a stream that is about to be cut: its row is written here."""
    if logging_obj is not None:
        logging_obj.model_call_details[_STREAM] = True


def keep_failure_out_of_the_log(logging_obj: Any) -> None:
    """Have LiteLLM not log the error that an attempt is about to raise."""
    if logging_obj is not None:
        for event in _FAILURES:
            logging_obj.model_call_details[f"has_logged_{event}"] = True


def let_failures_into_the_log(logging_obj: Any) -> None:
    """Take that back for a fallback: those of a request share their logging object.

    LiteLLM itself logs, and counts for a deployment's cooldown, the first error of a request only,
    however often its Router repeats a call.
    """
    if logging_obj is not None:
        for event in _FAILURES:
            logging_obj.model_call_details.pop(f"has_logged_{event}", None)


def counted(
    request: Mapping[str, Any], model: str, text: str, known: Usage | None
) -> Callable[[], litellm.ModelResponse]:
    """Makes a response with the usage of a stream that was dropped after ``text``.

    ``known`` is what it has said of that itself.
    """
    return partial(_counted, model, request, text, known or Usage())


def _counted(
    model: str, request: Mapping[str, Any], text: str, known: Usage
) -> litellm.ModelResponse:
    before = known.input_tokens or _asked(model, request)
    after = max(known.output_tokens, litellm.token_counter(model=model, text=text))
    usage = litellm.Usage(
        prompt_tokens=before, completion_tokens=after, total_tokens=before + after
    )
    return litellm.ModelResponse(model=model, usage=usage)


def _asked(model: str, request: Mapping[str, Any]) -> int:
    """The tokens of a prompt."""
    messages = request.get("messages")
    if messages:
        try:
            return int(litellm.token_counter(model=model, messages=messages))
        except ValueError:
            # LiteLLM counts pictures, but no sounds, nor what else it does not know.
            pass
    said = "\n".join(_texts(messages or request.get("input")))
    return int(litellm.token_counter(model=model, text=said))


def _texts(asked: Any) -> Iterator[str]:
    """What messages or an input say: pictures, sounds and files are encoded, and no text."""
    left = [asked]
    while left:
        found = left.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            left += [found.get(name) for name in _SAID]
        elif isinstance(found, list | tuple):
            left += found

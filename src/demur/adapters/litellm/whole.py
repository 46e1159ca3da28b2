"""Whole responses as the Router brings them, attempt by attempt.

A refused attempt is raised on, which makes the Router fall back; its row in the log is written
here. Which row settles what is reserved for the request is only known in the end: that of the
response that is served, which may be the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any

from litellm.integrations.custom_guardrail import CustomGuardrail

from ...errors import RefusedError
from ...vocabulary import Target
from . import calling, chain
from .background import Background
from .calling import CallingPort
from .exchange import Exchange
from .headers import mark_fallback, shown_group, shown_hops
from .marks import mark, marks_of, marks_of_served, show_outcome
from .rows import Row, keep_failure_out_of_the_log, keep_out_of_the_cache, keep_out_of_the_log
from .spend import metadata_of
from .stream import call_fallback, fallback_request
from .surfaces import in_shape_of


class Attempts:
    """Judges responses for ``guardrail``."""

    def __init__(self, guardrail: CustomGuardrail, background: Background) -> None:
        self._guardrail = guardrail
        self._background = background

    async def judge(self, found: Exchange, data: dict[str, Any], response: Any) -> Any:
        """Let a response pass, or raise for the Router to fall back. What to serve in its place, if
        anything."""
        metadata = metadata_of(data)
        group = chain.group_of(metadata)
        found.replace_first(chain.stand_in(found.plan, group, metadata.get("attempted_fallbacks")))
        serve_it, told = False, "refused"
        try:
            serve_it = await found.bring(
                response,
                group,
                routed=group is not None,
                logging_obj=data.get("litellm_logging_obj"),
            )
        except RefusedError as error:
            told = str(error)
        finally:
            mark(self._guardrail, found, data)
        if not serve_it:
            self._drop(found, data, response)
            if _takes_the_place(found, response):
                # At once: for another hop the Router may have no deployment by now.
                return await self.serve_kept(found, data, response)
            raise chain.AttemptRefusedError(found.plan.requested.model, told)
        if found.shown is not None:
            # One that was kept, translated since: the cache would take it for the last model's own.
            keep_out_of_the_cache(data)
        show_outcome(found, response)
        self._write(found)
        return None

    async def serve_kept(self, found: Exchange | None, data: dict[str, Any], mocked: Any) -> Any:
        """The end of the chain: its mocked answer must never be what the caller gets."""
        logging_obj = data.get("litellm_logging_obj")
        keep_out_of_the_cache(data)
        try:
            kept = await found.give_up() if found is not None else None
            told = "nothing was kept"
        except RefusedError as error:
            kept, told = None, str(error)
        if found is None or kept is None:
            keep_failure_out_of_the_log(logging_obj)
            raise chain.AttemptRefusedError(str(data.get("model")), told)
        mark(self._guardrail, found, data)
        if any(row.response is kept.native for row in found.rows):
            keep_out_of_the_log(logging_obj)
        self._write(found, kept.native)
        found.shown = dict(getattr(kept.native, "_hidden_params", None) or {})
        native = in_shape_of(mocked, kept)
        show_outcome(found, native)
        return native

    async def judge_cached(
        self, found: Exchange, data: dict[str, Any], response: Any, router: Any
    ) -> Any:
        """A response out of LiteLLM's cache, which no deployment hook has seen. What to serve in
        its place, if anything: the Router is done, so the fallbacks are called on it anew.

        It may be the answer of a fallback that the Router has called.
        """

        def make(target: Target) -> Awaitable[Any]:
            return call_fallback(found, router, fallback_request(data, target))

        group = shown_group(response)
        found.replace_first(chain.stand_in(found.plan, group, shown_hops(response)))
        port = CallingPort(found, response, data, make)
        try:
            served = await calling.go_on(port, group)
        except RefusedError as error:
            raise chain.AttemptRefusedError(found.plan.requested.model, str(error)) from None
        finally:
            mark(self._guardrail, found, data)
            self.log(port)
        if served.completion.native is response:
            return None
        native = in_shape_of(response, served.completion)
        show_outcome(found, native)
        mark_fallback(native, served.outcome)
        return native

    def log(self, port: CallingPort) -> None:
        """Log the calls that demur has made itself, each with its verdict."""
        found = port.exchange
        outcome = found.outcome
        attempts = outcome.attempts if outcome is not None else ()
        for place, row in port.rows.items():
            if outcome is not None and place == outcome.served:
                row.mark(marks_of_served(self._guardrail, found))
            else:
                verdict = attempts[place].verdict if place < len(attempts) else None
                row.mark(marks_of(self._guardrail, found.plan, verdict))
            self._background.run(row.write())

    def _drop(self, found: Exchange, data: Mapping[str, Any], response: Any) -> None:
        logging_obj = data.get("litellm_logging_obj")
        if logging_obj is None:
            return
        keep_failure_out_of_the_log(logging_obj)
        row = Row(logging_obj, response, next(found.numbers))
        row.mark(marks_of(self._guardrail, found.plan, found.verdict, found.seconds))
        found.rows.append(row)
        self.watch(found)

    def watch(self, found: Exchange) -> None:
        """Settle the request whatever becomes of it: a caller who leaves has it cancelled, and so
        has a server that ends. No hook is told of either."""
        task = asyncio.current_task()
        if task is not None and found.unwatch is None:
            ended = partial(self._ended, found)
            task.add_done_callback(ended)
            # The task may be one that goes on to other requests.
            found.unwatch = partial(task.remove_done_callback, ended)

    def _ended(self, found: Exchange, task: asyncio.Task[Any]) -> None:
        self._write(found)
        if task.cancelled():
            self._background.run(found.leave())

    def _write(self, found: Exchange, kept: Any = None) -> None:
        """Log what was dropped. The row of ``kept``, which is served after all, settles."""
        if found.unwatch is not None:
            found.unwatch()
            found.unwatch = None
        rows, found.rows = found.rows, []
        for row in rows:
            if kept is not None and row.response is kept:
                row.mark(marks_of_served(self._guardrail, found))
                row.end_request_now()
            else:
                row.set_aside()
            self._background.run(row.write())


def _takes_the_place(found: Exchange, response: Any) -> bool:
    """Whether the response owed is of the kind at hand, so that all that follows fits it too."""
    return found.owed is not None and type(found.owed.native) is type(response)

"""LiteLLM's own row of a fallback's stream, held back until it is known what it should say.

A stream may end while it is held, before there is a verdict: its row would be written without one.
LiteLLM has a place on the logging object for guardrails that look at a stream's end, and leaves
the row there.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from .spend import metadata_of

KEY: Final = "_demur_parking"
"""In the metadata of a fallback's request."""


class Parking:
    """Gets hold of the logging object of one stream, before its first call is made."""

    def __init__(self) -> None:
        self.logging_obj: Any = None

    def __deepcopy__(self, memo: object) -> Parking:
        """LiteLLM copies metadata; this is one."""
        return self

    def __repr__(self) -> str:
        return "<demur>"

    def take(self, logging_obj: Any) -> None:
        if logging_obj is not None:
            self.logging_obj = logging_obj
            logging_obj._on_deferred_stream_complete = self._write

    def leave(self) -> Coroutine[Any, Any, None] | None:
        """What writes the row, if the stream has ended; else it is written as the stream ends."""
        logging_obj = self.logging_obj
        parked = getattr(logging_obj, "_deferred_stream_complete_args", None)
        if logging_obj is not None:
            logging_obj._on_deferred_stream_complete = None
            logging_obj._deferred_stream_complete_args = None
        return self._write(*parked) if parked else None

    async def _write(self, *parked: Any) -> None:
        """``parked`` is a coroutine that logs, or the whole response and whether it was cached."""
        if inspect.iscoroutine(parked[0]):
            await parked[0]
            return
        response, cache_hit = parked
        await self.logging_obj.dispatch_success_handlers(
            response,
            cache_hit=cache_hit,
            start_time=None,
            end_time=None,
            prefer_async_handlers=True,
        )


def is_parked(logging_obj: Any) -> bool:
    """Whether the row of a stream that has ended waits there."""
    return getattr(logging_obj, "_deferred_stream_complete_args", None) is not None


def parking_of(request: Mapping[str, Any]) -> Parking | None:
    """That of a fallback demur has opened."""
    found = metadata_of(request).get(KEY)
    return found if isinstance(found, Parking) else None

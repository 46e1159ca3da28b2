"""Calls that LiteLLM makes inside an attempt, to run tools itself in between.

The caller never sees what comes of them: a tool call that LiteLLM works off, or an answer that the
attempt as a whole brings once more, to be judged there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from . import exchange
from .spend import BUCKETS

_MARKS: Final = ("_skip_mcp_handler", "_agentic_loop_depth")
"""What LiteLLM calls such a call with: around the tools of its MCP gateway, and after a tool that a
callback has run. What it may make of the call, for a provider of another API, lacks them."""


class _Place(Enum):
    """What stands in the exchange's place: LiteLLM copies metadata, and a copy of it is it."""

    INNER = "inner"


def is_inner(data: Mapping[str, Any]) -> bool:
    """Whether a hook is called for such a call, or for what LiteLLM makes of one."""
    if any(_key_of(data.get(name)) is _Place.INNER for name in BUCKETS):
        return True
    found = exchange.find(data)
    return found is not None and not marks_of(data) <= found.marks


def marks_of(data: Mapping[str, Any]) -> frozenset[str]:
    """LiteLLM's marks on a call. Those that a caller has put on the request say nothing."""
    return frozenset(mark for mark in _MARKS if data.get(mark))


def pass_over(kwargs: dict[str, Any]) -> None:
    """Have such a call, and what LiteLLM makes of it, be nobody's attempt."""
    for name in BUCKETS:
        metadata = kwargs.get(name)
        if isinstance(metadata, Mapping) and exchange.KEY in metadata:
            kwargs[name] = {**metadata, exchange.KEY: _Place.INNER}


def _key_of(metadata: Any) -> Any:
    return metadata.get(exchange.KEY) if isinstance(metadata, Mapping) else None

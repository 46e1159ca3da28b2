"""Reading fields of JSON that may be anything: a value of the wanted type, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..vocabulary import Usage

_NOTHING: Mapping[str, Any] = {}
_MOST_TOKENS: Final = 10**12


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else _NOTHING


def sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def string(value: object) -> str:
    return value if isinstance(value, str) else ""


def name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def count(value: object) -> int:
    """A number of tokens: never negative, no boolean, and none that no response can have.

    JSON has integers that no float can hold, and costs are floats.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value > _MOST_TOKENS:
        return 0
    return max(value, 0)


def usage(value: object, *, read: Sequence[str], written: Sequence[str]) -> Usage | None:
    """The tokens in the fields ``read`` and ``written``, summed; ``None`` where there are none."""
    fields = mapping(value)
    if not any(key in fields for key in (*read, *written)):
        return None
    return Usage(
        sum(count(fields.get(key)) for key in read),
        sum(count(fields.get(key)) for key in written),
    )

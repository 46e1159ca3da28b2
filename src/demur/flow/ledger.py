"""What a flow may ask of the state that requests share, and what it is told.

A store keeps cells by key. A cell has a mark, a short text that lasts for a time, and amounts by
name, added up over a sliding window. What one ``Consult`` asks happens at once: nothing that other
requests ask comes in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SLOTS = 12
"""Parts of a window. It slides by whole parts, so it reaches back 11/12 to 12/12 of its length."""


@dataclass(frozen=True, slots=True)
class Look:
    """What does the cell say? Told a ``Cell``. ``window`` in seconds, 0 where none is kept."""

    key: str
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Swap:
    """Change the cell's mark from ``old`` to ``new``. Told whether it still was ``old``.

    ``None`` is no mark. ``new`` lasts ``seconds``; ``clear`` forgets the cell's amounts.
    """

    key: str
    old: str | None
    new: str
    seconds: float
    clear: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Set the cell's mark, whatever it was, for ``seconds``. Told nothing."""

    key: str
    mark: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Add:
    """Add to the cell's amounts, where ``guarded`` only if its mark is ``mark``. Told nothing."""

    key: str
    window: float
    amounts: tuple[tuple[str, float], ...]
    mark: str | None = None
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits on a cell's amounts over its window."""

    key: str
    window: float
    limits: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reserve:
    """One more of ``name`` in each cell, if every allowance has room for it. Told whether.

    Room is: ``name`` stays within its limit, every other amount is still below its own.
    """

    name: str
    allowances: tuple[Allowance, ...]


Operation = Look | Swap | Put | Add | Reserve


@dataclass(frozen=True, slots=True)
class Cell:
    mark: str | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """One fact for each operation, in their order. ``now`` is the store's time, in seconds."""

    facts: tuple[Any, ...]
    now: float
    seconds: float = 0.0


def fits(allowance: Allowance, amounts: Mapping[str, float], name: str) -> bool:
    """Whether ``allowance`` has room for one more of ``name``."""
    return all(
        amounts.get(limited, 0.0) + 1 <= most
        if limited == name
        else amounts.get(limited, 0.0) < most
        for limited, most in allowance.limits
    )

"""Cells in the process's own memory: at most so many, those asked for least lately go first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..flow.ledger import (
    SLOTS,
    Add,
    Allowance,
    Cell,
    Look,
    Operation,
    Put,
    Reserve,
    Swap,
    Told,
    fits,
)
from ..forking import renewed_in_children

MOST_CELLS: Final = 10_000


@dataclass(slots=True)
class _Kept:
    mark: str | None = None
    until: float = 0.0
    slots: dict[int, dict[str, float]] = field(default_factory=dict)


class MemoryStore:
    """``clock`` gives seconds, since the epoch by default."""

    def __init__(self, *, most: int = MOST_CELLS, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._cells: OrderedDict[str, _Kept] = OrderedDict()
        self.renew()
        renewed_in_children(self)

    def ask(self, operations: Sequence[Operation]) -> Told:
        with self._lock:
            now = self._clock()
            return Told(tuple([self._do(operation, now) for operation in operations]), now)

    async def aask(self, operations: Sequence[Operation]) -> Told:
        return self.ask(operations)

    def renew(self) -> None:
        """See ``Forkable``. What is remembered stays."""
        self._lock = threading.Lock()

    def _do(self, operation: Operation, now: float) -> Any:
        match operation:
            case Look(key, window):
                kept = self._cells.get(key)
                if kept is None:
                    return Cell()
                self._cells.move_to_end(key)
                return Cell(_mark(kept, now), _sums(kept, window, now))
            case Swap(key, old, new, seconds, clear):
                kept = self._cells.get(key)
                if (kept and _mark(kept, now)) != old:
                    return False
                kept = self._kept(key)
                kept.mark, kept.until = new, now + seconds
                if clear:
                    kept.slots.clear()
                return True
            case Put(key, mark, seconds):
                kept = self._kept(key)
                kept.mark, kept.until = mark, now + seconds
            case Add(key, window, amounts, mark, guarded):
                kept = self._cells.get(key)
                if not guarded or (kept and _mark(kept, now)) == mark:
                    _add(self._kept(key), window, amounts, now)
            case Reserve(name, allowances):
                return self._reserve(name, allowances, now)
        return None

    def _reserve(self, name: str, allowances: Sequence[Allowance], now: float) -> bool:
        found = [(allowance, self._kept(allowance.key)) for allowance in allowances]
        if not all(fits(a, _sums(kept, a.window, now), name) for a, kept in found):
            return False
        for allowance, kept in found:
            _add(kept, allowance.window, ((name, 1.0),), now)
        return True

    def _kept(self, key: str) -> _Kept:
        kept = self._cells.get(key)
        if kept is None:
            kept = self._cells[key] = _Kept()
            if len(self._cells) > self._most:
                self._cells.popitem(last=False)
        self._cells.move_to_end(key)
        return kept


def _mark(kept: _Kept, now: float) -> str | None:
    return kept.mark if now < kept.until else None


def _slot(window: float, now: float) -> int:
    return int(now // (window / SLOTS))


def _sums(kept: _Kept, window: float, now: float) -> dict[str, float]:
    found: dict[str, float] = {}
    if window:
        current = _slot(window, now)
        for slot, amounts in kept.slots.items():
            if slot > current - SLOTS:
                for name, amount in amounts.items():
                    found[name] = found.get(name, 0.0) + amount
    return found


def _add(kept: _Kept, window: float, amounts: Sequence[tuple[str, float]], now: float) -> None:
    slot = _slot(window, now)
    if slot not in kept.slots:
        kept.slots = {s: a for s, a in kept.slots.items() if s > slot - SLOTS}
        kept.slots[slot] = {}
    for name, amount in amounts:
        kept.slots[slot][name] = kept.slots[slot].get(name, 0.0) + amount

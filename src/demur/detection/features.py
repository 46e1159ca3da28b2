"""The features that a network knows, and the row that each has in its table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ngrams import Hashes

SLOT_BITS = 19
_KEY_BITS = 32
_KEY_SHIFT = np.uint64(_KEY_BITS)
_SLOT_SHIFT = np.uint32(_KEY_BITS - SLOT_BITS)


@dataclass(frozen=True, slots=True)
class Features:
    """``keys`` are the upper halves of the known features' hashes, in the order of their rows."""

    keys: NDArray[np.uint32]
    _slots: NDArray[np.int32] = field(init=False, compare=False, repr=False)
    _views: tuple[Any, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        slots = np.zeros(1 << SLOT_BITS, dtype=np.int32)
        at = self.keys >> _SLOT_SHIFT
        # Where two share a slot, the first one keeps it.
        slots[at[::-1]] = np.arange(self.keys.size, dtype=np.int32)[::-1]
        object.__setattr__(self, "_slots", slots)
        object.__setattr__(self, "_views", (self.keys.data, slots.data))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.keys,)

    def rows(self, hashes: Hashes) -> NDArray[np.int32]:
        """The row of every hash, -1 where the feature is not known."""
        keys = (hashes >> _KEY_SHIFT).astype(np.uint32)
        rows: NDArray[np.int32] = self._slots.take(keys >> _SLOT_SHIFT)
        rows[self.keys.take(rows) != keys] = -1
        return rows

    def row(self, value: int) -> int:
        """``rows`` of one hash, for which an array would be slow."""
        keys, slots = self._views
        key = value >> _KEY_BITS
        row: int = slots[key >> (_KEY_BITS - SLOT_BITS)]
        return row if keys[row] == key else -1

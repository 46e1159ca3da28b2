"""A second reading of the data: what responses are whose sources are unsure or wrong about them.

Each was read with its prompt, and the refusals once more without it. One row's id a line, in
``refusal.txt``, ``normal.txt`` and ``partial.txt``, and in ``unclear.txt`` those that nobody could
say of, or that only the prompt shows to refuse. Of the rows that the sources call unclear one in
eight is kept from training, to measure with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from zlib import crc32

from ..rows import Row

FOLDER = Path(__file__).parent
_KEPT_APART = 8
_WEIGHT = 2.0
"""Of a row that its source calls unclear: soft refusals, which the data has fewest of."""


def read_again(rows: Iterable[Row]) -> list[Row]:
    """The rows as this reading has them; without those that are unclear."""
    found = _readings()
    return [
        row if row.id not in found else _as(row, found[row.id])
        for row in rows
        if found.get(row.id) != "unclear"
    ]


def apart(row: Row) -> bool:
    """Whether a row of an unclear source is kept from training."""
    return row.id in _readings() and crc32(row.id.encode()) % _KEPT_APART == 0


@cache
def _readings() -> dict[str, str]:
    return {
        name: path.stem
        for path in sorted(FOLDER.glob("*.txt"))
        for name in path.read_text(encoding="utf-8").split()
    }


def _as(row: Row, label: str) -> Row:
    if label == "partial":
        return replace(row, partial=True)
    weight = _WEIGHT if row.partial else row.weight
    return replace(row, label=int(label == "refusal"), partial=False, weight=weight)

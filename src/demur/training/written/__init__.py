"""Responses written for this project, one by one, where public data lacks them.

Soft refusals, lectures without a refusing word, answers that begin like refusals and then help: the
same topics and phrases on both sides, mostly in pairs. One pair in eight is kept from training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..rows import Row

FOLDER = Path(__file__).parent
SOURCE = "written"
_KEPT_APART = 8
_PAIR = "/"


def written_rows() -> tuple[list[Row], list[Row]]:
    """Rows to train on, and rows to choose thresholds on; no pair is in both."""
    train: list[Row] = []
    develop: list[Row] = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                item = json.loads(line)
                pair = item.get("pair")
                name = (
                    f"{path.stem}-{number}"
                    if pair is None
                    else f"{path.stem}-{number}{_PAIR}{pair}"
                )
                apart = (number if pair is None else int(pair)) % _KEPT_APART == 0
                (develop if apart else train).append(_row(item, name))
    return train, develop


def pair_of(row: Row) -> str | None:
    """What a row has in common with its counterpart; ``None`` where it has none."""
    name, _, pair = row.id.partition(_PAIR)
    return f"{name.rpartition('-')[0]}{_PAIR}{pair}" if pair else None


class Draws:
    """Draws rows in a new order each round, so that all are seen equally often."""

    def __init__(self, rows: Sequence[Row], random: np.random.Generator) -> None:
        self._rows = list(rows)
        self._random = random
        self._order = self._endless()

    def draw(self, number: int) -> list[Row]:
        return [self._rows[next(self._order)] for _ in range(number)]

    def _endless(self) -> Iterator[int]:
        while True:
            yield from self._random.permutation(len(self._rows)).tolist()


def _row(item: dict[str, object], name: str) -> Row:
    kind = item.get("kind")
    return Row(
        response=str(item["response"]),
        label=1 if item["label"] else 0,
        id=name,
        source=SOURCE,
        licence="Apache-2.0",
        lang=str(item["lang"]),
        partial=bool(item.get("partial")),
        kind=str(kind) if kind else None,
    )

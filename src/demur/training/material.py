"""What a run learns from, and what it is measured on while it does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .cases import hard_cases
from .fresh import Fresh
from .readings import apart, read_again
from .recipe import Recipe
from .rows import Row, clean, lean, read_rows
from .written import SOURCE, written_rows

HARD = ("hard", SOURCE)
"""Sources whose normal answers are chosen for being hard, so no measure of how many are."""


@dataclass(frozen=True, slots=True)
class Material:
    """``rows`` of the data, partial ones among them, and ``own``, written by hand, to learn from.

    ``develop`` are the data's rows that thresholds are chosen on; ``chosen_on`` has, besides, the
    hard ones of this project.
    """

    rows: Sequence[Row]
    own: Sequence[Row]
    develop: Sequence[Row]
    chosen_on: Sequence[Row]

    @classmethod
    def read(cls, recipe: Recipe, data: Path) -> Material:
        """Raises ``InputError`` where a file is missing, or one of the labels is."""
        train = clean(read_again(_rows(data, recipe.data.train)))
        read = read_again(_rows(data, recipe.data.partial))
        unclear = [row for row in lean(read, recipe.data.leaning) if not apart(row)]
        develop = clean(read_again(_rows(data, recipe.data.develop)))
        _need_both(data, recipe.data.train, train)
        _need_both(data, recipe.data.develop, develop)
        own, own_develop = written_rows()
        return cls(
            rows=[*train, *unclear],
            own=own,
            develop=develop,
            chosen_on=[*develop, *clean(own_develop), *hard_cases()],
        )

    def fresh(self, recipe: Recipe) -> Fresh:
        """Texts beside these, from the recipe's seed."""
        return Fresh(self.rows, self.own, recipe.augment.written, recipe.seed)

    def digest(self) -> str:
        """Differs where any row does."""
        found = hashlib.sha256()
        for row in (*self.rows, *self.own, *self.chosen_on):
            found.update(repr(row).encode("utf-8", "backslashreplace"))
        return found.hexdigest()


def _rows(data: Path, names: Sequence[str]) -> list[Row]:
    return [row for name in names for row in read_rows(data / name)]


def _need_both(data: Path, names: Sequence[str], rows: Sequence[Row]) -> None:
    missing = {0: "normal answers (label 0)", 1: "refusals (label 1)"}
    for row in rows:
        missing.pop(row.label, None)
    if missing:
        files = ", ".join(str(data / name) for name in names)
        raise InputError(f"{files}: no {' and no '.join(missing.values())}; training needs both")

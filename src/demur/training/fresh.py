"""Texts beside the data's: some drawn from those written by hand, the others composed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .composing import Composer
from .rows import Row
from .written import Draws


class Fresh:
    """Gives as many as are asked for; ``share`` of them are drawn from ``own``, if there are any.

    ``rows`` lend the composed ones real beginnings and endings.
    """

    def __init__(self, rows: Sequence[Row], own: Sequence[Row], share: float, seed: int) -> None:
        self._chance = np.random.default_rng(seed + 1)
        self._composer = Composer(rows, self._chance)
        self._own, self._share, self._seed = own, share, seed
        self._start()

    def __call__(self, number: int) -> list[Row]:
        drawn = round(number * self._share) if self._own else 0
        self._drawn += drawn
        return [*self._draws.draw(drawn), *self._composer.compose(number - drawn)]

    def state(self) -> dict[str, Any]:
        """What ``restore`` goes on from, as JSON can hold it."""
        return {"composer": self._chance.bit_generator.state, "drawn": self._drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self._chance.bit_generator.state = state["composer"]
        self._start()
        self._drawn = state["drawn"]
        if self._own:
            self._draws.draw(self._drawn)

    def _start(self) -> None:
        self._draws = Draws(self._own, np.random.default_rng(self._seed + 2))
        self._drawn = 0

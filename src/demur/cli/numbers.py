"""Types of options that hold numbers."""

from __future__ import annotations

import math
from typing import Any

import click


class Float(click.FloatRange):
    """A range of numbers, which NaN is not in though no bound of the range excludes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found

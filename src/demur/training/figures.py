"""How a page and a terminal write the numbers of a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .measuring import Report


def number(value: float, digits: int = 4) -> str:
    """Of a share of no rows it says that there is none."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


def counted(count: int, noun: str) -> str:
    """So many of them, as in ``1 response``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_interval(report: Report, name: str) -> str:
    """A figure of the report's ``overall``, and its interval where it has one."""
    value = getattr(report.overall, name)
    interval = None if math.isnan(value) else report.intervals.get(name)
    ends = "" if interval is None else f" ({number(interval.low)} to {number(interval.high)})"
    return number(value) + ends


def tokens_held(report: Report) -> str:
    """By normal answers that stream: median and 95th percentile."""
    early = report.prefixes
    held = () if early is None else (early.median_tokens, early.p95_tokens)
    return " / ".join(number(tokens, 0) for tokens in held)

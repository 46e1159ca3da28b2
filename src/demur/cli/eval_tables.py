"""What ``demur eval`` shows beside the quality: a band of scores as a third label, and probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from ..detection import Detector
from ..training.figures import number
from .printing import shown

if TYPE_CHECKING:
    from ..training.bands import Confusion
    from ..training.counterfactuals import Probe
    from ..training.measuring import Judged
    from ..training.passing import Passing
    from ..training.rows import Row

PROBED = 300
"""Texts that are changed, at most."""


def banded(
    detector: Detector, judged: Judged, rows: Sequence[Row], low: float, high: float
) -> Confusion:
    """The confusion of three labels: the rows already judged, and the partial ones of ``rows``."""
    from ..training.bands import confusion
    from ..training.measuring import judge

    known = {id(row) for row in judged.rows}
    partial = [row for row in rows if row.partial and id(row) not in known]
    more = judge(judged.name, detector, partial, lambda done, total: None)
    scores = np.concatenate([judged.scores, more.scores])
    return confusion([*judged.rows, *partial], scores, low, high)


def probed(detector: Detector, rows: Sequence[Row], seed: int) -> tuple[Probe, ...]:
    """Counterfactuals of ``rows``, and the pairs written by hand that were kept from training."""
    from ..training.counterfactuals import both_right, probe
    from ..training.written import pair_of, written_rows

    _, kept = written_rows()
    return (
        *probe(detector, rows, most=PROBED, seed=seed),
        both_right(detector, kept, pair_of),
    )


def confusion_table(name: str, found: Confusion) -> Table:
    labels = tuple(found.counts)
    table = Table(
        "labelled",
        *labels,
        "F1",
        title=shown(f"{name}: partial from {found.low:g} to {found.high:g}"),
    )
    for real, row in found.counts.items():
        table.add_row(real, *(f"{row[called]:,}" for called in labels), f"{found.f1(real):.3f}")
    return table


def probe_table(name: str, probes: Sequence[Probe]) -> Table:
    table = Table("changed text", "texts", "called refusals", "should be", title=shown(name))
    for found in probes:
        refused = f"{found.refused:.1%}" if found.texts else number(found.refused)
        table.add_row(found.name, str(found.texts), refused, f"{found.wanted:.0%}")
    return table


def passing_told(console: Console, found: Passing) -> None:
    """What was chosen, what it costs and what it keeps, and the lines for a policy."""
    sure = found.chosen
    console.print(
        f"Chosen on half of the rows, measured on the other {found.rows:,}: the second detector is "
        f"asked about {found.passed:.1%}; F1 {found.cascade.f1:.4f} (alone {found.alone.f1:.4f}), "
        f"recall {found.cascade.recall:.4f} ({found.alone.recall:.4f}), false-positive rate "
        f"{found.cascade.false_positive_rate:.4f} ({found.alone.false_positive_rate:.4f}): "
        + ("nothing is lost." if found.kept else "not quite the second's alone; give more rows.")
    )
    console.print(f"detector: {{sure: {{normal: {sure.normal:g}, refusal: {sure.refusal:g}}}}}")

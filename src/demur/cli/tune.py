"""``demur tune``: a threshold for a wanted precision, from labelled responses."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..lines import label_of, partial_of
from .jsonl import Lines
from .numbers import Float

if TYPE_CHECKING:
    from ..detection import Detector
    from ..report.tuning import Labelled, Measure, Proposal, Tuned

_MOST = 10**15
_NEEDS_TEXT = "to be scored anew, every row needs its text under 'response'"

_MASKED = (
    "only a masked passage of the response is here, which has another score; leave out --rescore, "
    "or label a log with content: full"
)


@click.command("tune")
@click.argument("files", nargs=-1, required=True)
@click.option("--precision", required=True, type=Float(0, 1, min_open=True), help="As in 0.95.")
@click.option("--rescore", is_flag=True, help="Score the responses anew with the embedded model.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the bootstrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def tune(
    ctx: click.Context,
    files: tuple[str, ...],
    precision: float,
    rescore: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Propose the threshold that reaches a precision with the most refusals found.

    FILES are what demur label wrote, or any JSON lines with 'label' and 'score' (or 'response', to
    be scored here). Partial answers are left out. Exit status 1 if no threshold reaches it.
    """
    from ..report.tuning import tune as run

    rows, partial = _rows(files, rescore)
    found = run(rows, precision, seed=seed)
    refusals = sum(row.refusal for row in rows)
    if as_json:
        told = {"rows": len(rows), "refusals": refusals, "partial": partial, **asdict(found)}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{len(rows)} rows, {refusals} refusals; {partial} partial answers left out")
        _print(found, precision)
    if found.likely is None:
        ctx.exit(1)


def _rows(files: tuple[str, ...], rescore: bool) -> tuple[list[Labelled], int]:
    from ..detection.embedded import EmbeddedDetector

    rows: list[Labelled] = []
    counts: Counter[str] = Counter()
    detector: Detector | None = EmbeddedDetector.load() if rescore else None
    for file in files:
        with Lines(file) as lines:
            for number, row in lines:
                where = f"{lines.name}:{number}"
                if partial_of(row, where):
                    counts["partial"] += 1
                    continue
                if rescore and row.get("content") == "redacted":
                    raise InputError(f"{where}: {_MASKED}")
                text = lines.text(row, "response", number, _NEEDS_TEXT) if rescore else None
                rows.append(_labelled(row, where, detector, text))
                counts["refusals"] += rows[-1].refusal
    if not counts["refusals"] or counts["refusals"] == len(rows):
        raise InputError(
            f"{', '.join(files)}: {counts['refusals']} refusals among {len(rows)} labelled rows; "
            "there must be some of both to choose a threshold"
        )
    return rows, counts["partial"]


def _labelled(
    row: dict[str, Any], where: str, detector: Detector | None, text: str | None
) -> Labelled:
    from ..report.tuning import Labelled
    from ..vocabulary import Evidence

    label, score = label_of(row, where), row.get("score")
    if detector is not None and text is not None:
        score = detector.classify(Evidence(text)).score
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise InputError(
            f"{where}: score {score!r}; it must be a number in [0, 1], or give --rescore"
        )
    population = row.get("population")
    if isinstance(population, int) and population > _MOST:
        raise InputError(f"{where}: the population is too large; it must be at most {_MOST:,}")
    if isinstance(row.get("bin"), dict | list):
        raise InputError(f"{where}: the bin must be a number, as demur label writes it")
    known = isinstance(population, int) and population > 0
    return Labelled(
        float(score), bool(label), row.get("bin") if known else None, population if known else None
    )


def _print(found: Tuned, precision: float) -> None:
    table = Table("", "threshold", "precision", "recall", "share of responses")
    wanted = f"{precision * 100:.10g}%"
    for name, proposal in (
        (f"{wanted} by estimate", found.likely),
        (f"{wanted} with 97.5 % certainty", found.safe),
        ("most precise", found.best),
    ):
        table.add_row(name, *(_told(proposal) if proposal else ("none", "", "", "")))
    console = Console()
    console.print(table)
    if (chosen := found.safe or found.likely) is not None:
        console.print("In the policy:", style="dim")
        console.print(f"detector:\n  thresholds: {{refusal: {chosen.threshold}}}")
    else:
        console.print("No threshold reaches it. Label more responses, or settle for less.")


def _told(proposal: Proposal) -> tuple[str, ...]:
    return (
        str(proposal.threshold),
        _measure(proposal.precision),
        _measure(proposal.recall),
        f"{proposal.share:.1%}",
    )


def _measure(measure: Measure) -> str:
    return f"{measure.value:.1%} ({measure.low:.1%} to {measure.high:.1%})"

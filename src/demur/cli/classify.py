"""``demur classify``: judge a text, or every line of a JSON lines file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..errors import InputError
from ..vocabulary import LABELS, Evidence, Verdict
from .jsonl import Lines

if TYPE_CHECKING:
    from ..detection import Detector

PATIENCE = 60.0
"""Seconds a stage may take for one text: nobody waits for a response here."""

_FILE_ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")

Rates = dict[str, Counter[str]]


@click.command("classify")
@click.argument("source", metavar="TEXT|FILE|-")
@click.option("--text", "is_text", is_flag=True, help="Judge the argument itself, file or not.")
@click.option("--field", default="response", show_default=True, help="Dots lead into objects.")
@click.option("--by", metavar="FIELD", help="Rates for each value of this field, say the model.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, in the input's order.")
@click.option("--policy", type=click.Path(path_type=Path), help="Take its detector settings.")
@click.option("--model", help="A Hugging Face classifier: folder or hub id. It reads every text.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the detector's own.")
def classify(
    source: str,
    is_text: bool,
    field: str,
    by: str | None,
    as_json: bool,
    policy: Path | None,
    model: str | None,
    threshold: float | None,
) -> None:
    """Judge TEXT, or every line of the JSON lines FILE (gzipped or not; - is standard input).

    With --json each line holds index (of the row, from 0), label (normal, partial, refusal), score
    (in [0, 1], higher is more refusal), stage (which decided) and kind (why, or null). Without, a
    file gives a table of rates. A null in the field is judged as an empty text.

    Exit codes: 0 when all was judged, whatever the labels; 2 when the input, the policy or the
    model cannot be used. What was judged until then stands on standard output.
    """
    lines = None if is_text else _lines(source)
    detector = _detector(policy, model, threshold)
    if lines is None:
        _show(detector.classify(Evidence(source)), as_json=as_json)
        return
    rates: Rates = {}
    with lines, _progress(lines, hidden=as_json and sys.stdout.isatty()) as rows:
        for index, (number, row) in enumerate(rows):
            verdict = detector.classify(Evidence(lines.text(row, field, number)))
            rates.setdefault(_group(row, by), Counter())[verdict.label] += 1
            if as_json:
                click.echo(_json(index, verdict))
    if not rates:
        raise InputError(f"{lines.name}: holds no rows; give a file with one JSON object a line")
    if not as_json:
        Console().print(_table(rates, by))


def _lines(source: str) -> Lines | None:
    """The file meant by the argument, or ``None`` where it is a text."""
    if source == "-" or _exists(source):
        return Lines(source)
    if source.endswith(_FILE_ENDINGS) and not any(char.isspace() for char in source):
        raise InputError(
            f"{source}: no such file; check the path, or give --text to judge the name"
        )
    return None


def _exists(source: str) -> bool:
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):
        return False


def _detector(policy: Path | None, model: str | None, threshold: float | None) -> Detector:
    from ..detection.building import build_detector
    from ..policy import load_policy
    from ..policy.schema import DetectorSettings, Thresholds, TransformerSettings

    settings = DetectorSettings() if policy is None else load_policy(policy).detector
    changes: dict[str, Any] = {"seconds": max(PATIENCE, settings.seconds)}
    if threshold is not None:
        changes["thresholds"] = Thresholds(refusal=threshold)
    if model is not None:
        own = settings.transformer or TransformerSettings()
        changes["transformer"] = own.model_copy(update={"model": model, "revision": None})
        if "transformer" not in settings.stages:
            changes["stages"] = ("signals", "transformer")
    return build_detector(settings.model_copy(update=changes))


def _json(index: int, verdict: Verdict) -> str:
    fields = {
        "index": index,
        "label": verdict.label,
        "score": round(verdict.score, 6),
        "stage": verdict.stage,
        "kind": verdict.kind,
    }
    return json.dumps(fields)


def _show(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(0, verdict))
        return
    kind = f", {verdict.kind}" if verdict.kind else ""
    click.echo(f"{verdict.label}{kind} (score {verdict.score:.3f}, by {verdict.stage})")


def _group(row: dict[str, Any], by: str | None) -> str:
    if by is None:
        return ""
    value = row.get(by)
    shown = value if isinstance(value, str) else json.dumps(value)
    return "".join(char if char.isprintable() else "\ufffd" for char in shown[:80])


def _table(rates: Rates, by: str | None) -> Table:
    """How many of each label, and what share of the rows; the most rows first."""
    table = Table(*([by] if by else []), "rows", *LABELS)
    groups = sorted(rates.items(), key=lambda item: -item[1].total())
    total = sum(rates.values(), Counter[str]())
    if by and len(groups) > 1:
        groups.append(("all", total))
    for name, counts in groups:
        rows = counts.total()
        shares = (f"{counts[label]:,} ({counts[label] / rows:.1%})" for label in LABELS)
        table.add_row(*([_plain(name)] if by else []), f"{rows:,}", *shares)
    return table


def _plain(name: str) -> Any:
    from rich.text import Text

    return Text(name)  # as it is: brackets in a name are no markup


@contextmanager
def _progress(lines: Lines, *, hidden: bool) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    """The rows, and a bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield iter(lines)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("classifying", total=lines.size)

        def watched() -> Iterator[tuple[int, dict[str, Any]]]:
            for row in lines:
                bar.update(task, completed=lines.done)
                yield row

        yield watched()

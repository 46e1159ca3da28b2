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
from rich.table import Column, Table

from ..errors import InputError
from ..vocabulary import LABELS, Evidence, Verdict
from .bulk import NO_GROUP, PARQUET, Source, group_of, judged
from .jsonl import Lines
from .numbers import Float
from .printing import shown

if TYPE_CHECKING:
    from ..detection import Detector
    from ..policy.schema import DetectorSettings

PATIENCE = 60.0
"""Seconds a stage may take for one text: nobody waits for a response here."""

_FILE_ENDINGS = (
    ".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz", *PARQUET,
)  # fmt: skip

Rates = dict[str, Counter[str]]
Row = tuple[int, str, Verdict]
"""How many bytes are read, the row's group, and its verdict."""


@click.command("classify")
@click.argument("source", metavar="TEXT|FILE|-")
@click.option("--text", "is_text", is_flag=True, help="Judge the argument itself, file or not.")
@click.option("--field", default="response", show_default=True, help="Dots lead into objects.")
@click.option("--by", metavar="FIELD", help="Rates for each value of this field, as of --field.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, in the input's order.")
@click.option("--policy", type=click.Path(path_type=Path), help="Take its detector settings.")
@click.option("--model", help="A Hugging Face classifier: folder or hub id. It reads every text.")
@click.option("--threshold", type=Float(0, 1), help="Instead of the detector's own.")
@click.option("--ray", "use_ray", is_flag=True, help="By many processes, through Ray Data.")
@click.option("--workers", type=click.IntRange(1), help="Of --ray; default: one a core.")
def classify(
    source: str,
    is_text: bool,
    field: str,
    by: str | None,
    as_json: bool,
    policy: Path | None,
    model: str | None,
    threshold: float | None,
    use_ray: bool,
    workers: int | None,
) -> None:
    """Judge TEXT, or every line of the JSON lines FILE (gzipped or not; - is standard input).

    With --json each line holds index (of the row, from 0), label (normal, partial, refusal), score
    (in [0, 1], higher is more refusal), stage (which decided) and kind (why, or null). Without, a
    file gives a table of rates. A null in the field is judged as an empty text.

    --ray reads JSON lines and Parquet (.parquet), on the cluster that RAY_ADDRESS names or on all
    cores of this machine. The output is the same, in the same order.

    Exit codes: 0 when all was judged, whatever the labels; 2 when the input, the policy or the
    model cannot be used. What was judged until then stands on standard output.
    """
    _check_options(by, as_json=as_json, workers=workers, use_ray=use_ray)
    settings = _settings(policy, model, threshold)
    if use_ray and (is_text or not _exists(source)):
        raise InputError(f"{source[:80]!r}: --ray judges files; name one that exists")
    if use_ray:
        found = judged(Source(source, field, by), settings, workers)
    elif (lines := None if is_text else _lines(source)) is not None:
        found = _here(lines, field, by, settings)
    elif by is not None:
        raise InputError("--by: a single text has no fields; name a file of JSON lines")
    else:
        _show(build(settings).classify(Evidence(source)), as_json=as_json)
        return
    rates: Rates = {}
    out = sys.stdout
    with found as rows, _progress(source, rows, hidden=as_json and sys.stdout.isatty()) as seen:
        for index, (_, group, verdict) in enumerate(seen):
            rates.setdefault(group, Counter())[verdict.label] += 1
            if as_json:
                click.echo(_json(index, verdict), file=out)
    name = "<stdin>" if source == "-" else source
    if not rates:
        raise InputError(f"{name}: holds no rows; give a file with one JSON object a line")
    if not as_json:
        unknown = by is not None and rates.keys() == {NO_GROUP}
        Console().print(_table(rates, None if unknown else by))
        if unknown:
            raise InputError(f"{name}: no row has a field {by!r}; name one that is there with --by")


def _check_options(by: str | None, *, as_json: bool, workers: int | None, use_ray: bool) -> None:
    """Raise ``InputError`` for an option that another one leaves without effect."""
    if by is not None and as_json:
        raise InputError("--by: the rates are a table, which --json leaves out; give one of them")
    if workers is not None and not use_ray:
        raise InputError("--workers: only --ray works with several processes; give it, too")


@contextmanager
def _here(
    lines: Lines, field: str, by: str | None, settings: DetectorSettings
) -> Iterator[Iterator[Row]]:
    """The rows, judged one after another by this process."""
    detector = build(settings)

    def rows() -> Iterator[Row]:
        for number, row in lines:
            verdict = detector.classify(Evidence(lines.text(row, field, number)))
            yield lines.done, group_of(row, by), verdict

    with lines:
        yield rows()


def _lines(source: str) -> Lines | None:
    """The file meant by the argument, or ``None`` where it is a text."""
    if source == "-" or _exists(source):
        if source.endswith(PARQUET) and Path(source).is_file():
            raise InputError(f"{source}: is Parquet, which is read by Ray; give --ray")
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


def _settings(policy: Path | None, model: str | None, threshold: float | None) -> DetectorSettings:
    from ..policy import load_policy
    from ..policy.schema import DetectorSettings, Thresholds, TransformerSettings

    settings = DetectorSettings() if policy is None else load_policy(policy).detector
    changes: dict[str, Any] = {"seconds": max(PATIENCE, settings.seconds)}
    if threshold is not None:
        changes["thresholds"] = Thresholds(refusal=threshold)
    if model is not None:
        own = settings.transformer or TransformerSettings()
        changes["transformer"] = own.model_copy(update={"model": model, "revision": None})
        changes["stages"] = ("signals", "transformer")
    return settings.model_copy(update=changes)


def build(settings: DetectorSettings) -> Detector:
    from ..detection.building import build_detector

    return build_detector(settings)


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


def _table(rates: Rates, by: str | None) -> Table:
    """How many of each label, and what share of the rows; the most rows first."""
    table = Table(*([Column(shown(by))] if by else []), "rows", *LABELS)
    if (absent := rates.pop(NO_GROUP, None)) is not None:
        rates["null"] = rates.get("null", Counter()) + absent
    groups = sorted(rates.items(), key=lambda item: -item[1].total())
    total = sum(rates.values(), Counter[str]())
    if by and len(groups) > 1:
        groups.append(("all", total))
    for name, counts in groups:
        rows = counts.total()
        shares = (f"{counts[label]:,} ({counts[label] / rows:.1%})" for label in LABELS)
        table.add_row(*([shown(name)] if by else []), f"{rows:,}", *shares)
    return table


@contextmanager
def _progress(source: str, rows: Iterator[Row], *, hidden: bool) -> Iterator[Iterator[Row]]:
    """The rows, and a bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield rows
        return
    total = Path(source).stat().st_size if source != "-" and Path(source).is_file() else None
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("classifying", total=total)

        def watched() -> Iterator[Row]:
            for row in rows:
                bar.update(task, completed=row[0])
                yield row

        yield watched()

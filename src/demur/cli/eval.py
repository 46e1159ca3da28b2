"""``demur eval``: any detector on any labelled rows."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from ..detection import Detector
from ..errors import InputError
from ..training.figures import counted, number, tokens_held, with_interval
from .eval_tables import banded, confusion_table, passing_told, probe_table, probed
from .numbers import Float
from .printing import printable, shown
from .writing import check_output, replacing

if TYPE_CHECKING:
    from ..training.measuring import Comparison, Report
    from ..training.passing import Passing

MOST_GROUPS = 30


@click.command("eval")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--detector",
    "names",
    multiple=True,
    help="embedded (default), keywords, a folder of 'demur train', or transformer:NAME_OR_FOLDER. "
    "Repeat to compare.",
)
@click.option("--threshold", type=Float(0, 1), help="Instead of the detector's own.")
@click.option("--partial", is_flag=True, help="Keep partial rows, labelled as the source leans.")
@click.option(
    "--prefixes/--no-prefixes", default=True, show_default=True, help="Replay as streams."
)
@click.option(
    "--band",
    nargs=2,
    type=Float(0, 1),
    help="Also three labels: scores from the one to the other count as partial.",
)
@click.option("--probe", is_flag=True, help="Also texts with one thing changed, and pairs.")
@click.option(
    "--cascade",
    is_flag=True,
    help="Also what the first of two detectors may decide alone, so that nothing is lost.",
)
@click.option(
    "--mistakes", default=20, show_default=True, type=click.IntRange(0), help="Hard errors listed."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the bootstrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page too.")
def evaluate(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    threshold: float | None,
    partial: bool,
    prefixes: bool,
    band: tuple[float, float] | None,
    probe: bool,
    cascade: bool,
    mistakes: int,
    seed: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure detectors on FILES: JSON lines with 'response' and 'label', gzipped or not."""
    from ..training.measuring import compare, judge, judge_prefixes, report
    from ..training.passing import choose
    from ..training.rows import clean, read_rows

    check_output(html, files)
    if band is not None and band[0] > band[1]:
        raise InputError(f"--band {band[0]:g} {band[1]:g}: give the lower score first")
    read = [row for path in files for row in read_rows(path)]
    rows = read if partial else clean(read)
    if not rows:
        raise InputError(f"{files[0]}: holds only partial rows; give --partial to keep them")
    detectors = _detectors(names or ("embedded",), threshold, cascade)
    all_judged, reports = [], []
    with _bars(quiet=as_json) as bars:
        for name, detector in detectors.items():
            judged = judge(name, detector, rows, _advance(bars, name))
            early = (
                judge_prefixes(detector, judged, _advance(bars, f"{name}, as streams"))
                if prefixes and not detector.blocking
                else None
            )
            all_judged.append(judged)
            found = report(judged, early, seed=seed, most=mistakes)
            if band is not None:
                found = replace(found, confusion=banded(detector, judged, read, *band))
            if probe:
                found = replace(found, probes=probed(detector, rows, seed))
            reports.append(found)
    tests = compare(all_judged)
    passing = choose(*all_judged, seed=seed) if cascade else None
    if as_json:
        click.echo(json.dumps(_plain(reports, tests, passing), ensure_ascii=False, indent=2))
    else:
        show(Console(), reports, tests)
        if passing is not None:
            passing_told(Console(), passing)
    if html is not None:
        from ..training.page import render

        with replacing(html) as file:
            file.write(render(all_judged, reports, tests, files))


def _detectors(
    names: tuple[str, ...], threshold: float | None, cascade: bool
) -> dict[str, Detector]:
    """By name; the first of a cascade as a policy would build it."""
    from ..detection.embedded import EmbeddedDetector

    if len(set(names)) < len(names):
        raise InputError("--detector: one is given twice; name different ones to compare")
    if cascade and len(names) != 2:
        raise InputError("--cascade: give two detectors, the cheap one first")
    detectors = {name: load(name, threshold) for name in names}
    first = detectors[names[0]]
    if cascade and isinstance(first, EmbeddedDetector):
        detectors[names[0]] = first.before_another()
    return detectors


def load(name: str, threshold: float | None) -> Detector:
    """The detector a name on the command line means."""
    from ..detection.embedded import EmbeddedDetector

    if name == "embedded":
        return EmbeddedDetector.load(threshold=threshold)
    if name == "keywords":
        from ..training.keywords import KeywordDetector

        return KeywordDetector()
    kind, _, model = name.partition(":")
    if Path(name, "model.safetensors").is_file():
        kind, model = "transformer", name
    if kind == "transformer" and model:
        from ..detection.transformer import TransformerDetector
        from ..policy.schema import TransformerSettings

        return TransformerDetector(TransformerSettings(model=model), threshold=threshold)
    if Path(name, "weights.npz").is_file():
        return EmbeddedDetector.load(name, threshold)
    raise InputError(
        f"--detector {name!r}: neither embedded, keywords, transformer:NAME nor a model folder"
    )


def show(console: Console, reports: list[Report], tests: list[Comparison]) -> None:
    """The tables on a terminal."""
    table = Table(
        "",
        *(Column(shown(r.name)) for r in reports),
        title=counted(reports[0].overall.rows, "response"),
    )
    for row in (
        "loss", "accuracy", "recall", "precision", "f1", "false_positive_rate",
    ):  # fmt: skip
        table.add_row(row.replace("_", " "), *(with_interval(r, row) for r in reports))
    table.add_row("average precision", *(f"{r.average_precision:.4f}" for r in reports))
    table.add_row("calibration error", *(f"{r.calibration_error:.4f}" for r in reports))
    table.add_row("threshold", *(f"{r.threshold:.3f}" for r in reports))
    table.add_row("ms p50 / p95", *(f"{r.latency.p50:.2f} / {r.latency.p95:.2f}" for r in reports))
    if any(r.prefixes for r in reports):
        table.add_row("tokens held, median / p95", *map(tokens_held, reports))
        table.add_row("recall kept in streams", *(_kept(r) for r in reports))
    console.print(table)
    for found in reports:
        for group, members in found.groups.items():
            if len(members) > 1:
                console.print(_group_table(found.name, group, members))
        if found.confusion is not None:
            console.print(confusion_table(found.name, found.confusion))
        if found.probes:
            console.print(probe_table(found.name, found.probes))
        if found.mistakes:
            console.print(_mistake_table(found))
    for test in tests:
        console.print(
            f"{printable(test.first)} against {printable(test.second)}: only the first right "
            f"{test.only_first}, only the second {test.only_second}, p = {test.p_value:.2g} "
            "(McNemar, exact)",
            markup=False,
        )


def _kept(found: Report) -> str:
    return "" if found.prefixes is None else number(found.prefixes.recall_kept)


def _group_table(name: str, group: str, members: dict[str, Any]) -> Table:
    table = Table(
        group, "rows", "refusals", "F1", "recall", "FPR", title=shown(f"{name} by {group}")
    )
    for member, found in list(members.items())[:MOST_GROUPS]:
        table.add_row(
            shown(member),
            str(found.rows),
            str(found.refusals),
            *(number(v, 3) for v in (found.f1, found.recall, found.false_positive_rate)),
        )
    if len(members) > MOST_GROUPS:
        table.caption = f"{len(members) - MOST_GROUPS} smaller groups are left out; --json has all"
    return table


def _mistake_table(found: Report) -> Table:
    table = Table("id", "label", "score", "source", "language", "model", title="Hard errors")
    for miss in found.mistakes:
        label = "refusal" if miss.label else "normal"
        of = (shown(value) for value in (miss.source, miss.lang, miss.model))
        table.add_row(shown(miss.id), label, f"{miss.score:.3f}", *of)
    return table


def _plain(
    reports: list[Report], tests: list[Comparison], passing: Passing | None
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "detectors": [asdict(r) for r in reports],
        "tests": [asdict(t) for t in tests],
    }
    if passing is not None:
        told["cascade"] = asdict(passing)
    found: dict[str, Any] = _without_nan(told)
    return found


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what is not defined is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _bars(*, quiet: bool) -> AbstractContextManager[Progress | None]:
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    return nullcontext(None) if hidden else Progress(console=console, transient=True)


def _advance(bars: Progress | None, name: str) -> Any:
    if bars is None:
        return lambda done, total: None
    task = bars.add_task(escape(name), total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)

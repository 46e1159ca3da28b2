"""``demur replay``: what another policy would have done about the requests of an audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..vocabulary import Outcome
from .printing import shown
from .watching import watched
from .writing import check_output, replacing

if TYPE_CHECKING:
    from ..detection import Detector
    from ..policy import Policy
    from ..report.experience import Experience
    from ..report.replaying import Replayed
    from ..report.restoring import Entry
    from ..report.tallies import Comparison, Pair, Tally

MOST_GROUPS = 30


@click.command("replay")
@click.argument("audit", nargs=-1, required=True)
@click.option("--policy", "policy_file", required=True, type=click.Path(path_type=Path))
@click.option("--enforce", is_flag=True, help="As if nothing in the policy were in shadow mode.")
@click.option(
    "--prices", type=click.Path(path_type=Path), help="YAML: model: {input: , output: } a million."
)
@click.option("--scores", is_flag=True, help="Use the scores on record even if there is content.")
@click.option("--show", default=10, show_default=True, help="Requests that differ to list.")
@click.option(
    "--differences", type=click.Path(path_type=Path), help="Write all that differ as JSON lines."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def replay(
    audit: tuple[str, ...],
    policy_file: Path,
    enforce: bool,
    prices: Path | None,
    scores: bool,
    show: int,
    differences: Path | None,
    as_json: bool,
) -> None:
    """Replay the requests of AUDIT under another policy: old beside new, and what differs.

    AUDIT is an audit log (what was rotated away belongs to it), a database URL, or env:NAME. Where
    the log holds full content, the policy's detector judges it again; else its thresholds are
    applied to the scores on record. Calls that nobody made are taken to go as that model's calls
    went on average; requests with such calls are counted as estimated. A breaker and budgets for
    all requests see them at their times; conversations and whose a request was are not on record.
    """
    from ..policy import load_policy
    from ..report.experience import Experience
    from ..report.reading import AuditLog
    from ..report.replaying import enforced
    from ..report.tallies import Comparison, Prices, load_prices

    log = AuditLog(audit)
    check_output(differences, (*log.files, policy_file, prices))
    policy = load_policy(policy_file)
    if enforce:
        policy = enforced(policy)
    comparison = Comparison(Prices() if prices is None else load_prices(prices))
    with watched(log, "reading") as entries:
        experience = Experience.of(entry.outcome for entry in entries)
    differing: list[dict[str, Any]] = []
    told_all = nullcontext() if differences is None else replacing(differences)
    with watched(log, "replaying") as entries, told_all as file:
        for replayed in _replayed(entries, policy, experience, scores=scores):
            comparison.add(replayed)
            if replayed.differs and (file is not None or len(differing) < show):
                told = _difference(replayed)
                differing.extend([told] if len(differing) < show else [])
                if file is not None:
                    file.write(json.dumps(told) + "\n")
    if not comparison.total.old.requests:
        raise InputError(f"{log.name}: holds no records; nothing has been audited yet")
    unseen = sorted(experience.unseen)
    if as_json:
        click.echo(json.dumps(_plain(comparison, differing, unseen), indent=2))
    else:
        _print(comparison, differing, unseen, priced=prices is not None)


def _replayed(
    entries: Iterator[Entry], policy: Policy, experience: Experience, *, scores: bool
) -> Iterator[Replayed]:
    from ..report.replaying import Past, replayable
    from ..report.replaying import replay as run

    detector: Detector | None = None
    policy, past = replayable(policy), Past()
    for entry in entries:
        if detector is None and entry.content == "full" and not scores:
            detector = _detector(policy)
        yield run(entry, policy, experience, detector, past)


def _detector(policy: Policy) -> Detector:
    from ..detection.building import build_detector

    return build_detector(policy.detector)


def _difference(replayed: Replayed) -> dict[str, Any]:
    from ..report.tallies import untouched

    old = replayed.old
    new = replayed.new or untouched(old)
    return {
        "id": old.id,
        "model": old.requested_model,
        "old": _course(old),
        "new": _course(new),
        "estimated": replayed.guessed,
    }


def _course(outcome: Outcome) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "rule": outcome.rule,
        "ending": outcome.ending,
        "would": outcome.would,
        "label": None if verdict is None else verdict.label,
        "score": None if verdict is None else round(verdict.score, 4),
        "models": [attempt.model for attempt in outcome.attempts],
    }


def _plain(
    comparison: Comparison, differing: list[dict[str, Any]], unseen: list[str]
) -> dict[str, Any]:
    groups = [
        {"rule": rule, "model": model, **asdict(pair)}
        for (rule, model), pair in comparison.groups.items()
    ]
    return {
        "requests": comparison.total.old.requests,
        "differing": comparison.differing,
        "estimated": comparison.guessed,
        "unseen_models": unseen,
        "unpriced_models": sorted(comparison.prices.unknown) if comparison.prices.models else [],
        "total": asdict(comparison.total),
        "groups": groups,
        "differences": differing,
    }


_FIGURES: dict[str, Callable[[Tally], str]] = {
    "requests": lambda t: f"{t.requests:,}",
    "refusals served": lambda t: f"{t.refused:,} ({_share(t.refused, t.requests)})",
    "partial answers served": lambda t: f"{t.partial:,}",
    "answered by a fallback": lambda t: f"{t.fell_back:,}",
    "exhausted": lambda t: f"{t.exhausted:,}",
    "shadow: would have acted": lambda t: f"{t.would:,}",
    "added calls": lambda t: f"{t.calls:,}",
    "added seconds": lambda t: f"{t.seconds:,.1f}",
    "added tokens": lambda t: f"{t.tokens:,}",
    "added cost": lambda t: f"{t.cost:,.4f}",
}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _print(
    comparison: Comparison, differing: list[dict[str, Any]], unseen: list[str], *, priced: bool
) -> None:
    console = Console()
    total = comparison.total
    table = Table("", "as it was", "replayed", title=f"{total.old.requests:,} requests")
    for name, figure in _FIGURES.items():
        if name != "added cost" or priced:
            table.add_row(name, figure(total.old), figure(total.new))
    console.print(table)
    console.print(_group_table(comparison.groups))
    console.print(f"{comparison.differing:,} requests differ, {comparison.guessed:,} estimated")
    if unseen:
        told = ", ".join(unseen)
        console.print(shown(f"never called in this log, taken to answer: {told}"))
    if priced and comparison.prices.unknown:
        console.print(
            shown(f"not in the price list: {', '.join(sorted(comparison.prices.unknown))}")
        )
    if differing:
        console.print(_difference_table(differing))


def _group_table(groups: dict[tuple[str | None, str], Pair]) -> Table:
    table = Table("rule", "model", "requests", "refused", "fallbacks", "calls", "seconds")
    ranked = sorted(groups.items(), key=lambda item: -max(_size(item[1])))
    for (rule, model), pair in ranked[:MOST_GROUPS]:
        old, new = pair.old, pair.new
        table.add_row(
            shown(rule or "(none)"),
            shown(model),
            _arrow(old.requests, new.requests),
            _arrow(old.refused, new.refused),
            _arrow(old.fell_back, new.fell_back),
            _arrow(old.calls, new.calls),
            _arrow(old.seconds, new.seconds),
        )
    if len(ranked) > MOST_GROUPS:
        table.caption = f"{len(ranked) - MOST_GROUPS} smaller groups are left out; --json has all"
    return table


def _size(pair: Pair) -> tuple[int, int]:
    return pair.old.requests, pair.new.requests


def _arrow(old: float, new: float) -> str:
    before, after = (f"{v:,.1f}" if isinstance(v, float) else f"{v:,}" for v in (old, new))
    return before if before == after else f"{before} \u2192 {after}"


def _difference_table(differing: list[dict[str, Any]]) -> Table:
    table = Table("request", "as it was", "replayed", title="Requests that differ")
    for row in differing:
        name = f"{str(row['id'])[:13]}{' (estimated)' if row['estimated'] else ''}"
        table.add_row(shown(name), *(shown(_told(row[side])) for side in ("old", "new")))
    return table


def _told(course: dict[str, Any]) -> str:
    models = " \u2192 ".join(course["models"])
    would = f", would have {course['would']}" if course["would"] else ""
    return f"{course['label']} after {models}: {course['ending']}{would}"

"""The report of ``demur eval`` as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from .figures import counted, number, tokens_held, with_interval
from .measuring import Comparison, Judged, Report
from .metrics import Quality, calibration, curve

_LINES = 5
"""Colours; a sixth detector has the first one's."""
_SIZE, _EDGE = 320, 44
Line = tuple[str, Sequence[tuple[float, float]]]

_HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"""
_STYLE = """
:root { --page: #fff; --ink: #16181d; --soft: #5d626d; --rule: #ccc;
  --l0: #0b6e4f; --l1: #c8553d; --l2: #3d5a98; --l3: #a07f1d; --l4: #7a3e9d }
@media (prefers-color-scheme: dark) { :root {
  --page: #15181c; --ink: #e6e6e6; --soft: #a0a6b2; --rule: #3d434d;
  --l0: #2fb88a; --l1: #ec7646; --l2: #7ea2ee; --l3: #d2a83a; --l4: #c08ae0 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--page); color: var(--ink) }
h1, p { overflow-wrap: anywhere }
.scroll { overflow-x: auto; margin: 1rem 0 } table { border-collapse: collapse }
caption { text-align: left; font-weight: 600 }
td, th { border-bottom: 1px solid var(--rule); padding: .2rem .8rem; text-align: right }
th[scope=row] { text-align: left; font-weight: 400 }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem } figure { margin: 0; max-width: 100% }
figcaption { font-weight: 600 } figcaption span { font-weight: 400; margin-right: 1rem }
figcaption i { display: inline-block; width: .7rem; height: .7rem; margin-right: .35rem }
svg { display: block; max-width: 100%; height: auto }
text { font: 12px sans-serif; text-anchor: middle; fill: var(--soft) }
polyline { fill: none; stroke-width: 2 } .frame, .even { fill: none; stroke: var(--soft) }
.even { stroke-dasharray: 4 }
.l0 { stroke: var(--l0); background: var(--l0) }
.l1 { stroke: var(--l1); background: var(--l1) }
.l2 { stroke: var(--l2); background: var(--l2) }
.l3 { stroke: var(--l3); background: var(--l3) }
.l4 { stroke: var(--l4); background: var(--l4) }
"""


def render(
    all_judged: Sequence[Judged],
    reports: Sequence[Report],
    tests: Sequence[Comparison],
    files: Iterable[Path],
) -> str:
    """The whole page. Rows are named by id; no response is shown."""
    names = ", ".join(escape(path.name) for path in files)
    plots = [
        _plot("Precision over recall", "recall", [_precision(j) for j in all_judged]),
        _plot(
            "True share over score", "score", [_true_share(j) for j in all_judged], diagonal=True
        ),
        *_prefix_plots(reports),
    ]
    return (
        f'<!doctype html><html lang="en">{_HEAD}'
        f"<title>demur eval: {names}</title><style>{_STYLE}</style>"
        f"<h1>demur eval</h1><p>{names}: {counted(reports[0].overall.rows, 'response')}, "
        f"{counted(reports[0].overall.refusals, 'refusal')}.</p>"
        f"{_summary(reports)}{_tests(tests)}"
        f'<div class="plots">{"".join(plots)}</div>'
        f"{''.join(_groups(r) + _mistakes(r) for r in reports)}</html>\n"
    )


def _summary(reports: Sequence[Report]) -> str:
    lines = [
        [name.replace("_", " "), *(with_interval(found, name) for found in reports)]
        for name in ("loss", "accuracy", "recall", "precision", "f1", "false_positive_rate")
    ]
    lines.append(["average precision", *(number(r.average_precision) for r in reports)])
    lines.append(["calibration error", *(number(r.calibration_error) for r in reports)])
    lines.append(["threshold", *(number(r.threshold) for r in reports)])
    lines.append(["ms p50 / p95", *(f"{r.latency.p50:.2f} / {r.latency.p95:.2f}" for r in reports)])
    if any(r.prefixes for r in reports):
        lines.append(["tokens held, median / p95", *map(tokens_held, reports)])
        lines.append(
            [
                "recall kept",
                *(number(r.prefixes.recall_kept) if r.prefixes else "" for r in reports),
            ]
        )
    return _table("Quality, with 95 % intervals", ["", *(r.name for r in reports)], lines)


def _tests(tests: Sequence[Comparison]) -> str:
    if not tests:
        return ""
    lines = [
        [f"{t.first} / {t.second}", str(t.only_first), str(t.only_second), f"{t.p_value:.2g}"]
        for t in tests
    ]
    return _table(
        "Paired (McNemar, exact)", ["", "only first right", "only second right", "p"], lines
    )


def _groups(report: Report) -> str:
    heads = ["", "rows", "refusals", "F1", "recall", "precision", "FPR"]
    return "".join(
        _table(f"{report.name} by {group}", heads, [_line(n, q) for n, q in members.items()])
        for group, members in report.groups.items()
        if len(members) > 1
    )


def _line(name: str, found: Quality) -> list[str]:
    figures = (found.f1, found.recall, found.precision, found.false_positive_rate)
    return [name, str(found.rows), str(found.refusals), *map(number, figures)]


def _mistakes(report: Report) -> str:
    lines = [
        [m.id, "refusal" if m.label else "normal", number(m.score), m.source, m.lang, m.model]
        for m in report.mistakes
    ]
    heads = ["row", "label", "score", "source", "language", "model"]
    return _table(f"{report.name}: hard errors", heads, lines) if lines else ""


def _table(caption: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """It scrolls by itself where it is wider than the screen."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' if h else "<td></td>" for h in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in lines
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<tr>{head}</tr>{body}</table></div>"
    )


def _precision(judged: Judged) -> Line:
    return judged.name, [(p.recall, p.precision) for p in curve(judged.scores, judged.labels)]


def _true_share(judged: Judged) -> Line:
    return judged.name, [(b.mean, b.refusals) for b in calibration(judged.scores, judged.labels)]


def _prefix_plots(reports: Sequence[Report]) -> list[str]:
    titles = {
        "released_normal": "Normal answers released",
        "released_refusal": "Refusals leaked",
        "stopped_refusal": "Refusals stopped",
    }
    plots = []
    for field, title in titles.items():
        lines: list[Line] = []
        widest = 1
        for found in reports:
            if found.prefixes is not None:
                points = [(float(p.chars), float(getattr(p, field))) for p in found.prefixes.curve]
                widest = max(widest, int(points[-1][0]))
                lines.append((found.name, points))
        if lines:
            plots.append(_plot(f"{title} over characters held", "characters", lines, widest))
    return plots


def _plot(
    title: str, across: str, lines: Sequence[Line], widest: float = 1.0, diagonal: bool = False
) -> str:
    """One plot as SVG; the vertical axis is a share."""
    inner = _SIZE - 2 * _EDGE

    def place(x: float, y: float) -> str:
        return f"{_EDGE + x / widest * inner:.1f},{_SIZE - _EDGE - y * inner:.1f}"

    parts = [f'<rect x="{_EDGE}" y="{_EDGE}" width="{inner}" height="{inner}" class="frame"/>']
    for step in (0.0, 0.5, 1.0):
        bottom = place(step * widest, 0.0).split(",")
        left = place(0.0, step).split(",")
        parts.append(f'<text x="{bottom[0]}" y="{_SIZE - _EDGE + 16}">{step * widest:g}</text>')
        parts.append(f'<text x="{_EDGE - 18}" y="{left[1]}">{step:g}</text>')
    if diagonal:
        parts.append(_path([place(0, 0), place(1, 1)], "even"))
    legend = []
    for index, (name, points) in enumerate(lines):
        colour = f"l{index % _LINES}"
        drawn = [place(x, y) for x, y in points if not (math.isnan(x) or math.isnan(y))]
        parts.append(_path(drawn, colour))
        legend.append(f'<span><i class="{colour}"></i>{escape(name)}</span>')
    return (
        f"<figure><figcaption>{escape(title)}<br>{''.join(legend)}</figcaption>"
        f'<svg viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}'
        f'<text x="{_SIZE / 2}" y="{_SIZE - 8}">{escape(across)}</text></svg></figure>'
    )


def _path(points: Sequence[str], kind: str) -> str:
    return f'<polyline points="{" ".join(points)}" class="{kind}"/>'

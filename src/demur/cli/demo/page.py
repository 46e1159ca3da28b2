"""The demo on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from .asking import Heard
from .cast import POLICY, QUESTION
from .scenes import Cut, Seen

WIDEST: Final = 100
_BAR: Final = 30
_STYLES: Final = {"refusal": "red", "partial": "yellow", "normal": "green"}
_INTRODUCTION: Final = (
    "A scripted model server runs on this machine: its models' words and pace are made up. All "
    "else is what you would run: the OpenAI client, the LiteLLM proxy, the policy, the detector."
)


class Page:
    """Prints scenes as they come."""

    def __init__(self, console: Console) -> None:
        console.width = min(console.width, WIDEST)
        self._console = console

    def opening(self) -> None:
        policy = Syntax(POLICY.rstrip(), "yaml", background_color="default")
        self._console.print()
        self._console.print(_INTRODUCTION, style="dim")
        self._console.print(Panel(policy, title="policy.yaml", title_align="left", style="dim"))
        self._console.print(Text.assemble("  The question: ", (QUESTION, "bold")))

    def scene(self, seen: Seen) -> None:
        scene = seen.scene
        self._console.print()
        title = Text.assemble((scene.title, "bold cyan"), f"  model={scene.model!r}")
        self._console.print(Rule(title, align="left", style="dim"))
        self._console.print(Padding(Text(scene.caption, style="dim"), (0, 0, 0, 2)))
        if seen.scene.ending == "accepted":
            self._console.print(_panel(seen.demur, "without and with demur", _label(seen)))
        else:
            self._console.print(self._side_by_side(seen))
        self._console.print(Padding(_attempts(seen.record), (0, 0, 0, 2)))
        self._console.print(Padding(_facts(seen), (0, 0, 0, 2)))
        for check in seen.checks:
            if not check.holds:
                self._console.print(Text(f"  \u2717 not so: {check.claim}", style="bold red"))

    def _side_by_side(self, seen: Seen) -> RenderableType:
        """Two panels of the same height."""
        panels = (
            _panel(seen.without, "without demur", "refusal"),
            _panel(seen.demur, "with demur", _label(seen)),
        )
        half = self._console.options.update_width(self._console.width // 2)
        height = max(len(self._console.render_lines(panel, half)) for panel in panels)
        both = Table.grid(expand=True)
        for panel in panels:
            panel.height = height
            both.add_column(ratio=1)
        both.add_row(*panels)
        return both

    def note(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(f"  {text}", style="yellow"))

    def failure(self, message: str, log: str = "") -> None:
        self._console.print()
        told: RenderableType = Text(message, style="bold red")
        if log:
            told = Group(told, Text(), Text("The end of its log:", style="dim"), Text(log))
        self._console.print(Panel(told, border_style="red"))

    def closing(self, seen: Sequence[Seen], seconds: float) -> None:
        self._console.print()
        self._console.print(Rule(style="dim"))
        self._console.print(_summary(seen, seconds))
        self._console.print()
        self._console.print(_next_steps())


def _label(seen: Seen) -> str:
    return _label_of(seen.record.get("attempts", ()), seen.record.get("served"))


def _label_of(attempts: Sequence[Mapping[str, Any]], served: int | None) -> str:
    verdict = attempts[served]["verdict"] if served is not None else None
    return verdict["label"] if verdict else ""


def _panel(heard: Heard, title: str, label: str) -> Panel:
    text = Text(heard.text)
    for tool in heard.tools:
        text.append(f"\n\u2192 calls {tool}()", style="bold")
    times = _ms(heard.seconds)
    if len(heard.pieces) > 1:
        times = f"first {_ms(heard.first_seconds)}, all {times}"
    return Panel(
        text,
        title=Text.assemble((title, "bold"), " \u00b7 200 OK"),
        title_align="left",
        subtitle=Text(f"{heard.model} \u00b7 {times}", style="dim"),
        subtitle_align="right",
        border_style=_STYLES.get(label, "dim"),
    )


def _attempts(record: Mapping[str, Any]) -> RenderableType:
    """A row an attempt: the model, the verdict, what became of it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for index, attempt in enumerate(record.get("attempts", ())):
        verdict = attempt["verdict"] or {}
        label = verdict.get("label", "not judged")
        score = f"{verdict['score']:.3f} by {verdict['stage']}" if verdict else ""
        served = index == record["served"]
        table.add_row(
            Text(f"{index + 1}.", style="dim"),
            attempt["model"],
            Text(label, style=_STYLES.get(label, "dim")),
            Text(score, style="dim"),
            Text("served", style="green") if served else _unseen(attempt["usage"]),
        )
    return table


def _unseen(usage: Mapping[str, int] | None) -> Text:
    spent = "cut off" if usage is None else f"{sum(usage.values())} tokens spent"
    return Text(f"never seen, {spent}", style="dim")


def _facts(seen: Seen) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    for name, value in _known(seen.record, seen.cut, seen.headers):
        table.add_row(name, value)
    return table


def _known(
    record: Mapping[str, Any], cut: Cut | None, headers: Mapping[str, str]
) -> Iterator[tuple[str, RenderableType]]:
    if record:
        added = f"+{_ms(record['added_seconds'])}, {_ms(record['detection_seconds'])} of it judging"
        held = record["held_seconds"]
        if held is not None:
            added += f"; first text held {_ms(held)}"
        yield "time", Text(added)
    if cut is not None:
        sent = round(_BAR * cut.sent / max(1, cut.of))
        verb = "connection cut after" if cut.cut else "not cut:"
        yield (
            "refused",
            Text.assemble(
                ("\u2588" * sent, "red"),
                ("\u2591" * (_BAR - sent), "dim"),
                f"  {verb} {cut.sent} of {cut.of} events",
            ),
        )
    if headers:
        shown = (Text(f"{name}: {value}") for name, value in sorted(headers.items()))
        yield "headers", Columns(shown, padding=(0, 2))


def _summary(seen: Sequence[Seen], seconds: float) -> Text:
    replaced = [s for s in seen if s.scene.ending == "fell_back"]
    cuts = [s.cut for s in seen if s.cut is not None and s.cut.cut]
    added = [s.record["added_seconds"] for s in replaced if s.record]
    lines = [
        f"{len(replaced)} refusals, each a 200 OK that no gateway would have noticed, were "
        "replaced by the fallback's answer; not a word of them reached the caller."
    ]
    if cuts:
        sent = " and ".join(f"{cut.sent} of {cut.of}" for cut in cuts)
        lines.append(f"Refused streams were cut after {sent} events.")
    lines.append(
        "An answer and a tool call passed untouched, and where every model refused the caller got "
        "the first refusal, as without demur."
    )
    if added:
        lines.append(
            f"A refused attempt cost a caller {_ms(median(added))} (median) at this server's pace."
        )
    lines.append(f"All of it took {seconds:.1f} s.")
    return Text(" ".join(lines))


def _next_steps() -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_row('demur classify "I can\'t help with that."', "ask the detector yourself")
    table.add_row("demur classify FILE.jsonl --by model", "refusal rates in logs you have")
    table.add_row("demur policy check policy.yaml", "your own policy; begin with mode: shadow")
    table.add_row("README.md", "the client in two lines, the proxy in three")
    return table


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    if ms >= 1000:
        return f"{seconds:.1f} s"
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"

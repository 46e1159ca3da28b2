"""``demur label``: a human's look at responses of an audit log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from ..errors import InputError
from .printing import printable
from .watching import watched
from .writing import check_output, reason

if TYPE_CHECKING:
    from ..report.sampling import Candidate

MOST_CHARS = 2000
KEYS = {"n": "normal", "p": "partial", "r": "refusal"}
HELP = "[n]ormal  [p]artial  [r]efusal  [s]kip  [u]ndo  [q]uit"


@click.command("label")
@click.argument("audit", nargs=-1, required=True)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="JSON lines; grows if it exists."
)
@click.option("--count", default=100, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
def label(audit: tuple[str, ...], out: Path, count: int, seed: int) -> None:
    """Label responses of AUDIT by hand, one key each: uncertain ones first, and some of all.

    The log must hold content (audit: {content: full}, or redacted for a masked passage). What is
    written fits demur eval, demur train and demur tune. Stop whenever you like; the same command
    goes on where you stopped.
    """
    from ..report.reading import AuditLog
    from ..report.sampling import sample

    log = AuditLog(audit)
    check_output(out, log.files)
    with watched(log, "sampling") as entries:
        found = sample(entries, count, seed=seed)
    if not found:
        raise InputError(
            f"{log.name}: holds no responses' text; set audit: {{content: full}} (or "
            "redacted) in the policy, and label what is recorded from then on"
        )
    done = _labelled(out)
    left = [candidate for candidate in found if candidate.id not in done]
    with _appended(out) as file:
        number = _Session(Console(), left, file).run()
    click.echo(f"{out}: {number} labelled now, {len(done) + number} in all")


def _labelled(path: Path) -> set[str]:
    """Ids that stand in the file."""
    if not path.exists():
        return set()
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    return {_id(line, f"{path}:{n}") for n, line in enumerate(lines, start=1) if line.strip()}


def _id(line: bytes, where: str) -> str:
    try:
        row = json.loads(line)
        record = "attempts" in row
        found = str(row["id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{where}: not a labelled row; mend this line, or name another file with --out"
        ) from error
    if record:
        raise InputError(f"{where}: a record of an audit log; name another file with --out")
    return found


def _appended(path: Path) -> IO[str]:
    """The file, whose next row begins a line, also where the last line was left open.

    A new one is its owner's alone: like the log it holds what models answered.
    """
    try:
        path.touch(0o600)
        file = path.open("a", encoding="utf-8")
        if path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n"):
            file.write("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    return file


class _Session:
    """From one candidate to the next and back; each label is in the file at once."""

    def __init__(self, console: Console, candidates: Sequence[Candidate], file: IO[str]) -> None:
        self._console = console
        self._candidates = candidates
        self._file = file
        self._steps: list[int | None] = []

    def run(self) -> int:
        """How many were labelled."""
        while len(self._steps) < len(self._candidates):
            candidate = self._candidates[len(self._steps)]
            self._show(candidate)
            if not self._act(candidate):
                break
        return sum(step is not None for step in self._steps)

    def _show(self, candidate: Candidate) -> None:
        # Without the score and the label, which would sway.
        place = f"{len(self._steps) + 1} of {len(self._candidates)}  {printable(candidate.model)}"
        self._console.print(Panel(Text(_shown(candidate.response)), title=Text(place)))
        self._console.print(Text(HELP, style="dim"))

    def _act(self, candidate: Candidate) -> bool:
        while True:
            key = _key()
            if key in KEYS:
                self._steps.append(self._write(_row(candidate, KEYS[key])))
                return True
            if key == "s":
                self._steps.append(None)
                return True
            if key == "u" and self._steps:
                self._undo()
                return True
            if key in ("q", "\x03", "\x04", ""):
                return False

    def _write(self, row: dict[str, Any]) -> int:
        """Where in the file the row begins."""
        start = self._file.seek(0, 2)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        return start

    def _undo(self) -> None:
        start = self._steps.pop()
        if start is not None:
            self._file.truncate(start)


def _key() -> str:
    try:
        return click.getchar().lower()
    except (KeyboardInterrupt, EOFError):
        return "q"
    except OSError as error:
        raise InputError("demur label needs a terminal to ask at") from error


def _row(candidate: Candidate, label: str) -> dict[str, Any]:
    verdict = candidate.verdict
    return {
        "id": candidate.id,
        "response": candidate.response,
        "label": int(label != "normal"),
        "partial": label == "partial",
        "model": candidate.model,
        "source": "audit",
        "content": candidate.content,
        "score": round(verdict.score, 6),
        "threshold": round(verdict.threshold, 6),
        "stage": verdict.stage,
        "bin": candidate.bin,
        "population": candidate.population,
    }


def _shown(text: str) -> str:
    """A text fit for a terminal: its ends, and no control characters."""
    if len(text) > MOST_CHARS:
        gap = f"\n[\u2026 {len(text) - MOST_CHARS:,} characters \u2026]\n"
        text = text[: MOST_CHARS // 2] + gap + text[-MOST_CHARS // 2 :]
    return "\n".join(printable(line) for line in text.splitlines())

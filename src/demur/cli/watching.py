"""A bar on standard error while an audit log is read, where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from ..report.reading import AuditLog
    from ..report.restoring import Entry

_STRIDE = 256


@contextmanager
def watched(log: AuditLog, what: str) -> Iterator[Iterator[Entry]]:
    """The log's entries; the bar moves as they are taken."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield iter(log)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=log.total)

        def entries() -> Iterator[Entry]:
            for number, entry in enumerate(log):
                if not number % _STRIDE:
                    bar.update(task, completed=log.done)
                yield entry

        yield entries()

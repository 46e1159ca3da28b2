"""``demur report``: an audit log as one page, to look at or to send on."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError
from .watching import watched
from .writing import check_output, replacing


@click.command("report")
@click.argument("audit", nargs=-1, required=True)
@click.option("--html", required=True, type=click.Path(path_type=Path), help="The page to write.")
@click.option(
    "--prices", type=click.Path(path_type=Path), help="YAML: model: {input: , output: } a million."
)
def report(audit: tuple[str, ...], html: Path, prices: Path | None) -> None:
    """Draw AUDIT as one self-contained page of HTML: rates, reasons, fallbacks, what it cost.

    AUDIT is an audit log (what was rotated away belongs to it), a database URL, or env:NAME. The
    page holds numbers and names, no text of any response.
    """
    from ..report.page import render
    from ..report.reading import AuditLog
    from ..report.tallies import Prices, load_prices

    log = AuditLog(audit)
    check_output(html, (*log.files, prices))
    listed = Prices() if prices is None else load_prices(prices)
    title = ", ".join(Path(source).name for source in audit if "://" not in source) or "audit log"
    with watched(log, "reading") as entries:
        page, requests = render((entry.outcome for entry in entries), listed, title)
    if not requests:
        raise InputError(f"{log.name}: holds no records; nothing has been audited yet")
    with replacing(html) as file:
        file.write(page)
    click.echo(f"{html}: {requests:,} requests")

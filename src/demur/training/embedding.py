"""Builds an embedded model: its n-grams, its network, its encoder, its thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..detection.encoder import Encoder
from ..detection.network import Network
from ..detection.text import HEAD_CHARS, TAIL_CHARS
from .calibration import calibrate
from .checkpoints import Checkpoints, State
from .encoder import Start
from .features import choose
from .fitting import KINDS, Fit, read
from .fresh import Fresh
from .material import Material
from .recipe import EmbeddedRecipe
from .rows import clean
from .running import Progress
from .second import EncoderFit
from .teaching import Teachers

Arrays = dict[str, NDArray[Any]]


def build_embedded(
    recipe: EmbeddedRecipe,
    start: Start | None,
    material: Material,
    checkpoints: Checkpoints,
    stage: Callable[[str], Progress],
) -> None:
    """Write the model's files as a draft, going on from what ``checkpoints`` has.

    Networks and encoder draw the same fresh texts, so that none depends on another's draws.
    """
    second = None
    if start is not None and recipe.encoder is not None:
        second = EncoderFit(recipe, recipe.encoder, start, material.rows, material.fresh(recipe))
        second.run(stage("encoder"), checkpoints.keeper("encoder"))
    arrays = _network(recipe, material, second, checkpoints, stage)
    folder = checkpoints.draft()
    save(folder / "weights.npz", arrays)
    encoder = None
    if second is not None:
        opinion = second.net.arrays()
        save(folder / "encoder.npz", opinion)
        encoder = Encoder.build(opinion)
    found = calibrate(
        Network.build(arrays), encoder, material.chosen_on, recipe.thresholds, recipe.encoder
    )
    (folder / "config.json").write_text(
        json.dumps(configuration(recipe, found), indent=2) + "\n", encoding="utf-8"
    )


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays as an uncompressed archive, without pickles."""
    np.savez(path, allow_pickle=False, **arrays)


def configuration(recipe: EmbeddedRecipe, found: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` holds."""
    return {
        "format": 1,
        "name": recipe.name,
        "version": recipe.folder,
        "labels": ["normal", "refusal"],
        "kinds": list(KINDS),
        "window": {"head_chars": HEAD_CHARS, "tail_chars": TAIL_CHARS},
        **found,
        "recipe": recipe.model_dump(mode="json"),
    }


def _network(
    recipe: EmbeddedRecipe,
    material: Material,
    encoder: EncoderFit | None,
    checkpoints: Checkpoints,
    stage: Callable[[str], Progress],
) -> Arrays:
    fresh = material.fresh(recipe)
    keys = _keys(recipe, material, fresh, checkpoints, stage)
    begun = fresh.state()

    def fitted(name: str, seed: int, teacher: Teachers | None) -> Fit:
        fresh.restore(begun)
        own = recipe.model_copy(update={"seed": seed})
        fit = Fit(own, keys, material.rows, fresh, teacher)
        fit.run(stage(name), checkpoints.keeper(name.replace(" ", "-")))
        return fit

    number = recipe.fit.teachers
    teachers = [
        fitted(f"teacher {place} of {number}", recipe.seed + place, None).net
        for place in range(1, number + 1)
    ]
    taught = Teachers(teachers, encoder) if teachers else None
    return fitted("network", recipe.seed, taught).arrays()


def _keys(
    recipe: EmbeddedRecipe,
    material: Material,
    fresh: Fresh,
    checkpoints: Checkpoints,
    stage: Callable[[str], Progress],
) -> NDArray[np.uint32]:
    """The n-grams the network is to know."""
    known = checkpoints.load("features")
    if known is not None:
        fresh.restore(known.plain["fresh"])
        return known.tensors["keys"].numpy().astype(np.uint32)
    reading = stage("reading")
    templates = recipe.augment.templates
    shown = [*clean(material.rows), *fresh(templates), *fresh(templates)]
    items = []
    for number, row in enumerate(shown, start=1):
        items.append((read(row.response), row.label, 1.0))
        reading(number, len(shown), 0.0)
    keys = choose(items, recipe.features)
    tensors = {"keys": torch.from_numpy(keys.astype(np.int64))}
    checkpoints.save("features", State(tensors, {"fresh": fresh.state()}))
    return keys

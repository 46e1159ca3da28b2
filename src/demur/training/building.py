"""A recipe and a data folder in, a versioned model folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..detection.network import Network
from ..detection.text import HEAD_CHARS, TAIL_CHARS
from .calibration import Calibration, calibrate
from .card import write_card
from .features import choose
from .fitting import KINDS, Fit, Progress, read
from .recipe import Recipe
from .rows import Row, clean, read_rows

KIND_THRESHOLD = 0.6
"""Least probability with which a refusal's kind is named."""

Stage = Callable[[str], Progress]
"""Starts the progress bar of a stage and gives what moves it on."""


def build(recipe: Recipe, data: Path, into: Path, stage: Stage) -> Path:
    """Train the recipe's model on the rows under ``data``; returns the new folder in ``into``."""
    train = _rows(data, recipe.data.train)
    partial = [row for row in _rows(data, recipe.data.partial) if row.partial]
    develop = clean(_rows(data, recipe.data.develop))
    random = np.random.default_rng(recipe.seed + 1)
    fresh = composer(recipe, random)
    rows = [*clean(train), *partial]
    fit = _fit(recipe, rows, fresh, stage)
    arrays = fit.arrays()
    network = Network.build(arrays)
    calibration = calibrate(network, develop, recipe.thresholds)
    folder = into / recipe.folder
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "weights.npz", **arrays)
    config = _config(recipe, calibration)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_card(folder, recipe, rows)
    return folder


def composer(recipe: Recipe, random: np.random.Generator) -> Callable[[], list[Row]]:
    """What composes an epoch's texts from templates."""
    return lambda: []


def _fit(recipe: Recipe, rows: Sequence[Row], fresh: Callable[[], list[Row]], stage: Stage) -> Fit:
    reading = stage("reading")
    items = []
    shown = [*clean(rows), *fresh(), *fresh()]
    for number, row in enumerate(shown, start=1):
        items.append((read(row.response), row.label, 1.0))
        reading(number, len(shown), 0.0)
    fit = Fit(recipe, choose(items, np.zeros(0, dtype=np.uint64), recipe.features))
    del items
    fit.run(rows, fresh, stage("training"))
    return fit


def _config(recipe: Recipe, calibration: Calibration) -> dict[str, Any]:
    found = asdict(calibration)
    return {
        "format": 1,
        "name": recipe.name,
        "version": recipe.folder,
        "labels": ["normal", "refusal"],
        "kinds": list(KINDS),
        "window": {"head_chars": HEAD_CHARS, "tail_chars": TAIL_CHARS},
        "calibration": {"scale": found.pop("scale"), "shift": found.pop("shift")},
        "thresholds": {**found, "kind": KIND_THRESHOLD},
        "recipe": recipe.model_dump(mode="json"),
    }


def _rows(data: Path, names: Sequence[str]) -> list[Row]:
    return [row for name in names for row in read_rows(data / name)]

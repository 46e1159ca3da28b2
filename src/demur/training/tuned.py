"""Builds a fine-tuned classifier: trained, calibrated, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ..detection.torch_model import device_of
from .calibration import easy_of, highest_spared, platt
from .checkpoints import Checkpoints
from .classifier import Classifier
from .finetuning import TABLE, FineTune, described, plain
from .material import Material
from .metrics import Quality, quality, sigmoid
from .recipe import TransformerRecipe
from .rows import once_a_question
from .running import Progress

ABOUT = "training.json"
"""Beside the weights: the recipe, every epoch's table, the calibration."""


def build_tuned(
    recipe: TransformerRecipe,
    material: Material,
    checkpoints: Checkpoints,
    stage: Callable[[str], Progress],
    tell: Callable[[str], None],
    device: str,
) -> str:
    """Write the model's files as a draft, going on from what ``checkpoints`` has.

    Returns what the card says of the training.
    """
    import torch

    fit = FineTune(recipe, material, device_of(torch, device), stage, tell)
    fit.run(stage("training"), checkpoints.keeper("training"))
    classifier = fit.take_best()
    final = calibrate(classifier, material, recipe, stage("calibrating"))
    tell(f"epoch {fit.best} is kept; calibrated: {described(final)}")
    folder = checkpoints.draft()
    classifier.save(folder)
    about = {
        "version": recipe.folder,
        "kept": fit.best,
        "epochs": fit.epochs,
        "calibrated": plain(final),
        "recipe": recipe.model_dump(mode="json"),
    }
    text = json.dumps(about, indent=2, allow_nan=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")
    return epochs_table(fit.epochs, fit.best, final)


def calibrate(
    classifier: Classifier, material: Material, recipe: TransformerRecipe, progress: Progress
) -> Quality:
    """Put a logistic calibration, and the threshold as 0.5, into the classifier's last layer.

    Returns how good it is then on the development rows.
    """
    rows = material.chosen_on
    labels = np.array([row.label for row in rows])
    odds = classifier.odds([row.response for row in rows], progress)
    scale, shift = platt(odds, labels)
    odds = scale * odds + shift
    normal = easy_of(rows) & (labels == 0)
    weights = np.array(once_a_question(rows))[normal]
    limit = highest_spared(odds[normal], weights, recipe.thresholds.false_positives) + 1e-4
    classifier.rescale(scale, shift - limit)
    ours = slice(len(material.develop))
    moved = odds[ours] - limit
    return quality(sigmoid(moved), moved >= 0.0, labels[ours])


def epochs_table(epochs: list[dict[str, Any]], kept: int, final: Quality) -> str:
    """Every epoch on the development rows, and the model as it is, in Markdown."""
    lines = [
        "| | " + " | ".join(name.replace("_", " ") for name in TABLE) + " |",
        "| --- " * (len(TABLE) + 1) + "|",
    ]
    for epoch in epochs:
        mark = ", kept" if epoch["epoch"] == kept else ""
        lines.append(_line(f"epoch {epoch['epoch']}{mark}", epoch))
    lines.append(_line("calibrated", plain(final)))
    return "\n".join(lines)


def _line(name: str, found: dict[str, Any]) -> str:
    figures = ["" if found[key] is None else f"{found[key]:.4f}" for key in TABLE]
    return f"| {name} | {' | '.join(figures)} |"

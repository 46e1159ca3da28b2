"""From a recipe to a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from training_stage import EMBEDDED, ROWS, stage

from demur.detection.embedded import EmbeddedDetector
from demur.errors import InputError
from demur.training.recipe import recipe_of
from demur.vocabulary import Evidence

pytest.importorskip("torch")


def test_a_model_is_built_and_loads(data: Path, tmp_path: Path) -> None:
    """A small recipe gives a folder that loads, judges, and names its sources."""
    from demur.training.building import build

    folder = build(recipe_of(EMBEDDED), data, tmp_path, stage)
    detector = EmbeddedDetector.load(folder)
    assert folder.name == "embedded_v1"
    refusal = detector.classify(Evidence(text="I'm sorry, but I can't help with this."))
    assert refusal.label == "refusal"
    card = (folder / "README.md").read_text()
    assert "| own | MIT |" in card


def test_the_same_seed_builds_the_same(data: Path, tmp_path: Path) -> None:
    """Weights and thresholds depend on nothing but recipe and data; another seed differs."""
    from demur.training.building import build

    quick = {**EMBEDDED, "fit": {"epochs": 1, "texts": 60}, "augment": {"templates": 60}}
    folders = [
        build(recipe_of({**quick, "seed": seed}), data, tmp_path / str(n), stage)
        for n, seed in enumerate((1, 1, 2))
    ]
    first, same, other = ((f / "weights.npz").read_bytes() for f in folders)
    assert first == same
    assert first != other
    configs = [json.loads((f / "config.json").read_text()) for f in folders]
    assert configs[0] == configs[1]


def test_networks_of_the_next_seeds_teach(data: Path, tmp_path: Path) -> None:
    """They are trained first; the one that learns from them is another, and its card says so."""
    from demur.training.building import build

    stages: list[str] = []

    def noted(name: str) -> Callable[[int, int, float], None]:
        stages.append(name)
        return stage(name)

    def built(**fit: int) -> Path:
        own = {"fit": {"epochs": 1, "texts": 60, **fit}, "augment": {"templates": 60}, "seed": 11}
        return build(recipe_of({**EMBEDDED, **own}), data, tmp_path / str(fit), noted)

    taught, alone = built(teachers=2), built()
    assert stages[1:4] == ["teacher 1 of 2", "teacher 2 of 2", "network"]
    assert (taught / "weights.npz").read_bytes() != (alone / "weights.npz").read_bytes()
    told = "seed 11, taught by networks of the next 2 seeds."
    assert told in (taught / "README.md").read_text()
    assert "taught" not in (alone / "README.md").read_text()


def test_measured_numbers_survive_another_training() -> None:
    """What was written below the mark of the card is kept."""
    from demur.training.card import NUMBERS, card

    recipe = recipe_of(EMBEDDED)
    measured = card(recipe, ROWS) + "\nF1 0.99\n"
    again = card(recipe, ROWS, earlier=measured)
    assert again.count("F1 0.99") == 1
    assert again.count(NUMBERS) == 1


def test_an_encoder_needs_its_start(data: Path, tmp_path: Path) -> None:
    """Without the pretrained file the error says which one and how to name it."""
    from demur.training.building import build

    recipe = recipe_of({**EMBEDDED, "encoder": {}})
    with pytest.raises(InputError, match="--start"):
        build(recipe, data, tmp_path, stage)

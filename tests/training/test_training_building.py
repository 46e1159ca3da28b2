"""From a recipe to a model folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from training_stage import EMBEDDED, ROWS, stage

from demur.detection.embedded import EmbeddedDetector
from demur.detection.network import Network
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


def test_of_several_networks_the_best_is_kept(data: Path, tmp_path: Path) -> None:
    """It ranks the development rows better than the networks of the other seeds."""
    from demur.training.building import build
    from demur.training.choosing import ranking
    from demur.training.material import Material

    fit = {"epochs": 1, "texts": 60, "tries": 3}
    recipe = recipe_of({**EMBEDDED, "fit": fit, "augment": {"templates": 60}, "seed": 11})
    told: list[str] = []
    folder = build(recipe, data, tmp_path, stage, tell=told.append)
    with np.load(folder / "weights.npz") as arrays:
        kept = ranking(Network.build(dict(arrays)), Material.read(recipe, data).chosen_on)
    ranks = [float(re.search(r"precision (0\.\d{4}) on", line)[1]) for line in told]  # type: ignore[index]
    assert [line.split(":")[0] for line in told] == [
        "network 1 of 3, seed 11",
        "network 2 of 3, seed 12",
        "network 3 of 3, seed 13",
    ]
    assert len(set(ranks)) > 1
    assert ranks[1] == max(ranks), "neither the first nor the last"
    assert max(ranks) == round(kept, 4)
    assert (
        "seeds 11 to 13: of these\n3 networks, the one that ranks"
        in (folder / "README.md").read_text()
    )


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

"""From a recipe to a model folder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.errors import InputError
from demur.training.composing import Composer
from demur.training.recipe import Recipe
from demur.training.rows import Row
from demur.vocabulary import Evidence

pytest.importorskip("torch")

SMALL = {
    "network": {"width": 8, "filters": 16, "hidden": 12, "dropout": 0.1},
    "features": {"minimum": 2, "runs": 6000, "frequent": 4000, "pieces": 4000},
    "fit": {"epochs": 3, "texts": 400, "forget": 0.05, "rate": 0.01, "embedding_rate": 0.02},
    "augment": {"templates": 800},
}
ROWS = [
    Row("Bread needs flour, water, salt and time. Let it rise. " * 3, 0, lang="en"),
    Row("I'm sorry, but I can't help with that. Ask me something else.", 1, lang="en"),
    Row("The capital of Australia is Canberra, founded in 1913.", 0, lang="en"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = [*ROWS * 20, *Composer(ROWS, np.random.default_rng(0)).compose(400)]
    for name, part in (("train", rows[::2]), ("dev", rows[1::2]), ("partial", ROWS)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for row in part:
                line = {"response": row.response, "label": row.label, "lang": row.lang}
                line |= {"source": "own", "licence": "MIT", "partial": name == "partial"}
                file.write(json.dumps(line) + "\n")
    return folder


def stage(name: str):
    return lambda done, total, loss: None


def test_a_model_is_built_and_loads(data: Path, tmp_path: Path) -> None:
    """A small recipe gives a folder that loads, judges, and names its sources."""
    from demur.training.building import build

    folder = build(Recipe.model_validate(SMALL), data, tmp_path, stage)
    detector = EmbeddedDetector.load(folder)
    assert folder.name == "embedded_v1"
    refusal = detector.classify(Evidence(text="I'm sorry, but I can't help with this."))
    assert refusal.label == "refusal"
    card = (folder / "README.md").read_text()
    assert "| own | MIT |" in card


def test_the_same_seed_builds_the_same(data: Path, tmp_path: Path) -> None:
    """Weights and thresholds depend on nothing but recipe and data; another seed differs."""
    from demur.training.building import build

    quick = {**SMALL, "fit": {"epochs": 1, "texts": 60}, "augment": {"templates": 60}}
    folders = [
        build(Recipe.model_validate({**quick, "seed": seed}), data, tmp_path / str(n), stage)
        for n, seed in enumerate((1, 1, 2))
    ]
    first, same, other = ((f / "weights.npz").read_bytes() for f in folders)
    assert first == same
    assert first != other
    configs = [json.loads((f / "config.json").read_text()) for f in folders]
    assert configs[0] == configs[1]


def test_measured_numbers_survive_another_training(data: Path, tmp_path: Path) -> None:
    """What was written below the mark of the card is kept."""
    from demur.training.card import NUMBERS, write_card

    recipe = Recipe.model_validate(SMALL)
    write_card(tmp_path, recipe, ROWS)
    card = tmp_path / "README.md"
    card.write_text(card.read_text() + "\nF1 0.99\n")
    write_card(tmp_path, recipe, ROWS)
    assert card.read_text().count("F1 0.99") == 1
    assert card.read_text().count(NUMBERS) == 1


def test_an_encoder_needs_its_start(data: Path, tmp_path: Path) -> None:
    """Without the pretrained file the error says which one and how to name it."""
    from demur.training.building import build

    recipe = Recipe.model_validate({**SMALL, "encoder": {}})
    with pytest.raises(InputError, match="--start"):
        build(recipe, data, tmp_path, stage)

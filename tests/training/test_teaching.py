"""What networks and an encoder that have learnt teach another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_stage import TEXTS

from demur.detection.encoder import Encoder
from demur.detection.features import Features
from demur.detection.text import judged
from demur.training.features import choose
from demur.training.fitting import loss_of, read, taught_loss
from demur.training.fresh import Fresh
from demur.training.metrics import sigmoid
from demur.training.pretrained import Pretrained
from demur.training.recipe import EmbeddedRecipe, EncoderSettings, FeatureSettings
from demur.training.rows import Row

torch = pytest.importorskip("torch")

from demur.training.network import OUTPUTS, Batch, Net, collate  # noqa: E402
from demur.training.second import EncoderFit  # noqa: E402
from demur.training.teaching import Teachers  # noqa: E402

ROWS = [Row(text, place % 2, lang="en") for place, text in enumerate(TEXTS)]


@pytest.fixture
def batch() -> Batch:
    """``ROWS`` as networks read them, all of their n-grams known."""
    grams = [read(row.response) for row in ROWS]
    small = FeatureSettings(minimum=1.0, runs=400, frequent=400, pieces=400)
    items = [(gram, row.label, 1.0) for gram, row in zip(grams, ROWS, strict=True)]
    features = Features(choose(items, small))
    return collate(grams, [features.rows(gram.hashes) for gram in grams])


@pytest.fixture
def networks(batch: Batch) -> list[Net]:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(Net(int(batch.rows.max()) + 1, 8, 16, 12, 0.2))
    return made


@pytest.fixture
def encoder(start: Path) -> EncoderFit:
    settings = EncoderSettings(depth=1, pieces=100, texts=4, batch=4, composed=0.0)
    recipe = EmbeddedRecipe(encoder=settings)
    fresh = Fresh(ROWS, [], 0.0, recipe.seed)
    return EncoderFit(recipe, settings, Pretrained.read(start), ROWS, fresh)


def logits(networks: list[Net], batch: Batch) -> np.ndarray:
    with torch.no_grad():
        return np.mean([net.eval()(batch).numpy() for net in networks], axis=0)


def test_networks_teach_their_mean(networks: list[Net], batch: Batch) -> None:
    """Nothing of them is left out by chance, as it is while they learn."""
    found = Teachers(networks, None)(ROWS, batch).numpy()
    np.testing.assert_allclose(found, sigmoid(logits(networks, batch)), atol=1e-6)


def test_the_encoder_has_half_a_say_in_whole_texts(
    networks: list[Net], batch: Batch, encoder: EncoderFit
) -> None:
    """Beginnings are the networks' alone."""
    rows = [replace(ROWS[0], final=False), *ROWS[1:]]
    found = Teachers(networks, encoder)(rows, batch).numpy()
    mean = logits(networks, batch)
    asked = Encoder.build(encoder.net.arrays())
    opinions = np.stack([asked.outputs(judged(row.response)) for row in ROWS])
    expected = (mean + opinions) / 2
    expected[0] = mean[0]
    # What is read in 8 bits differs a little from what taught.
    np.testing.assert_allclose(found, sigmoid(expected), atol=0.01)
    assert np.abs(sigmoid(expected) - sigmoid(mean))[1:].max() > 0.05


def test_the_encoder_is_not_asked_where_networks_are_sure(
    networks: list[Net], batch: Batch, encoder: EncoderFit
) -> None:
    """However else it would answer."""
    with torch.no_grad():
        for net in networks:
            net.head.bias[0] = -9.0
    found = Teachers(networks, encoder)(ROWS, batch).numpy()
    np.testing.assert_allclose(found, sigmoid(logits(networks, batch)), atol=1e-6)


def test_to_be_taught_the_labels_is_to_learn_them() -> None:
    """Both losses are one; of partial rows only a teacher says something."""
    chance = torch.Generator().manual_seed(1)
    answers = torch.randn(len(ROWS), len(OUTPUTS), generator=chance)
    rows = [replace(ROWS[0], final=False), replace(ROWS[1], kind="policy"), *ROWS[2:]]
    labels = torch.tensor([[float(row.label), float(row.label), 0.0] for row in rows])
    assert torch.equal(taught_loss(answers, labels, rows), loss_of(answers, rows, 0.0))
    partial = [replace(row, partial=True) for row in rows]
    other = 1 - labels
    assert loss_of(answers, partial, 0.0) == loss_of(answers, [*partial], 0.02)
    assert taught_loss(answers, labels, partial) != taught_loss(answers, other, partial)

"""When the encoder is asked, and how both opinions are weighed."""

from __future__ import annotations

import numpy as np

from demur.detection.embedded import in_doubt
from demur.training.second import doubt_of, weigh


def test_weighing_holds_where_labels_are_told_apart() -> None:
    """Both opinions right about everything give finite weights near their prior, not infinity."""
    logits = np.concatenate([np.full(300, -12.0), np.full(300, 12.0)])
    weights = weigh(logits, logits, (logits > 0).astype(float))
    assert 0.0 < weights["network"] < 5.0
    assert 0.0 < weights["encoder"] < 5.0
    assert abs(weights["shift"]) < 1.0


def test_doubt_falls_on_the_likeliest_to_refuse() -> None:
    """A tenth of the normal answers asked for is a tenth; of refusals that only the second output
    tells, most are among what is asked."""
    chance = np.random.default_rng(3)
    labels = np.repeat([0, 1], [900, 100])
    outputs = chance.normal(size=(1000, 2)) + labels[:, None] * [0.0, 3.0]
    asked = in_doubt(outputs, doubt_of(outputs, labels, labels == 0, 0.1))
    assert asked[labels == 0].sum() == 90
    assert asked[labels == 1].mean() > 0.9


def test_doubt_needs_no_normal_answer() -> None:
    """A model that clearly refuses every normal answer leaves none to spare."""
    weights = doubt_of(np.ones((3, 2)), np.ones(3, dtype=int), np.zeros(3, dtype=bool), 0.1)
    assert np.isfinite(weights).all()

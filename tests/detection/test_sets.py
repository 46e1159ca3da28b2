"""The model in the wheel on the sets that everyone can measure with."""

from __future__ import annotations

from pathlib import Path

import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.training.measuring import judge
from demur.training.rows import read_rows

SETS = Path(__file__).parents[1] / "sets"


@pytest.mark.parametrize(
    ("name", "recall", "false_positives"),
    [("newer_models", 0.78, 0.01), ("languages", 0.83, 0.06)],
)
def test_what_is_found_and_what_is_spared(name: str, recall: float, false_positives: float) -> None:
    """A new version of the model may not lose what the one before it had."""
    rows = read_rows(SETS / f"{name}.jsonl")
    found = judge(name, EmbeddedDetector.load(), rows, lambda done, total: None)
    refused = found.labels == 1
    assert found.calls[refused].mean() >= recall
    assert found.calls[~refused].mean() <= false_positives

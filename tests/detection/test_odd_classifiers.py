"""Classifiers whose folders say less, or other things, than the reference model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from classifiers import ANSWERS, REFUSALS, gpt2, tokenizer_in, trained, without

from demur.detection.labels import self_test
from demur.detection.transformer import TransformerDetector
from demur.errors import ModelError
from demur.policy.schema import TransformerSettings
from demur.vocabulary import Evidence

pytest.importorskip("torch")
pytest.importorskip("transformers")

TARGETS = [1] * len(REFUSALS) + [0] * len(ANSWERS)


def load(model: Path, **settings: Any) -> TransformerDetector:
    values = {"model": str(model), "device": "cpu", **settings}
    return TransformerDetector(TransformerSettings.model_validate(values))


@pytest.fixture
def padless(tmp_path: Path) -> Path:
    """A GPT-2 whose configuration names no padding, as most of them; its tokenizer does."""
    tokenizer = tokenizer_in(tmp_path)
    model = gpt2(len(tokenizer), tokenizer.pad_token_id)
    trained(tmp_path, tokenizer, model, TARGETS)
    without(tmp_path / "config.json", "pad_token_id")
    return tmp_path


def test_padding_is_the_tokenizers_where_the_model_names_none(padless: Path) -> None:
    """Such a model reads texts of different lengths at once."""
    detector = load(padless)
    assert detector.classify(Evidence(REFUSALS[1])).label == "refusal"
    assert detector.classify(Evidence(ANSWERS[1])).label == "normal"


def test_a_model_without_any_padding(padless: Path) -> None:
    """It cannot read two texts at once: an error about the model that says where to name one."""
    path = padless / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    with pytest.raises(ModelError, match=rf"{padless}: .*self-test.*padding.*pad_token_id"):
        load(padless)


def test_whatever_the_self_test_raises_is_about_the_model() -> None:
    """LiteLLM starts its proxy without a guardrail that raises a ValueError or a TypeError."""

    def broken(texts: list[str]) -> list[tuple[int, float]]:
        raise TypeError("forward() got an unexpected keyword")

    with pytest.raises(ModelError, match=r"^m: .*self-test.*TypeError.*unexpected keyword") as told:
        self_test("m", "refusal", 0.5, broken)
    assert not isinstance(told.value, ValueError | TypeError)

"""Classifiers whose folders say less, or other things, than the reference model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from classifiers import ANSWERS, REFUSALS, gpt2, roberta, tokenizer_in, trained, without
from click.testing import CliRunner

from demur.cli import main
from demur.detection.labels import self_test
from demur.detection.torch_model import longest_of
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


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label model with few places, of which its tokenizer says nothing."""
    folder = tmp_path_factory.mktemp("several")
    tokenizer = tokenizer_in(folder)
    network = roberta(
        len(tokenizer),
        *("TOXIC", "REFUSAL", "DISCLAIMER"),
        problem_type="multi_label_classification",
        max_position_embeddings=130,
    )
    targets = [[0.0, float(target), 0.0] for target in TARGETS]
    trained(folder, tokenizer, network, targets, rounds=100)
    without(folder / "tokenizer_config.json", "model_max_length")
    return folder


@pytest.fixture(scope="module", params=["torch", "onnx"])
def of_several(
    request: pytest.FixtureRequest, several: Path, tmp_path_factory: pytest.TempPathFactory
) -> TransformerDetector:
    """It, and what ``demur export`` makes of it."""
    if request.param == "torch":
        return load(several)
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    done = CliRunner().invoke(main, ["export", str(several), "--to", str(folder)])
    assert done.exit_code == 0, done.output
    return load(folder, backend="onnx")


def test_labels_that_do_not_exclude_each_other(
    several: Path, of_several: TransformerDetector
) -> None:
    """A multi-label model is scored as the Hugging Face pipeline does it."""
    from transformers import pipeline

    card = pipeline("text-classification", model=str(several), device="cpu", top_k=None)
    for text in REFUSALS[:2] + ANSWERS[:2]:
        (found,) = card([text])
        scores = {one["label"]: one["score"] for one in found}
        assert of_several.score(text) == pytest.approx(scores["REFUSAL"], abs=1e-4)


def test_windows_are_no_longer_than_the_model(of_several: TransformerDetector) -> None:
    """Also where the tokenizer does not say how long that is; RoBERTa cannot use every place."""
    text = " ".join(ANSWERS * 10 + REFUSALS * 10)
    windows = of_several.model.tokens.windows(text, "ends")  # type: ignore[attr-defined]
    assert [len(window) for window in windows] == [128, 128]
    assert of_several.classify(Evidence(text)).label == "refusal"


@pytest.mark.parametrize(
    ("kind", "changes", "longest"),
    [
        ("bert", {"max_position_embeddings": 64}, 64),
        ("distilbert", {"max_position_embeddings": 64}, 64),
        ("mpnet", {"max_position_embeddings": 66}, 64),
        ("gpt2", {"n_positions": 64}, 64),
        ("xlnet", {}, 512),
        ("roberta", {"max_position_embeddings": 1026}, 512),
    ],
)
def test_places_of_a_model(kind: str, changes: dict[str, Any], longest: int) -> None:
    """As many as it has for tokens, but never more than it is meant to read at once."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(kind, **changes)
    with torch.device("meta"):
        network = AutoModelForSequenceClassification.from_config(config)
    assert longest_of(network, 10**30) == longest
    assert longest_of(network, 50) == 50


def test_whatever_the_self_test_raises_is_about_the_model() -> None:
    """LiteLLM starts its proxy without a guardrail that raises a ValueError or a TypeError."""

    def broken(texts: list[str]) -> list[tuple[int, float]]:
        raise TypeError("forward() got an unexpected keyword")

    with pytest.raises(ModelError, match=r"^m: .*self-test.*TypeError.*unexpected keyword") as told:
        self_test("m", "refusal", 0.5, broken)
    assert not isinstance(told.value, ValueError | TypeError)

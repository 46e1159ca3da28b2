"""A real, small DistilRoBERTa-shaped classifier, trained here in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text())
REFUSALS, ANSWERS = _SENTENCES["refusals"], _SENTENCES["answers"]


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained classifier; REJECTION is label 1, as in the reference model."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = _tokenizer(folder)
    model = _model(len(tokenizer), {0: "NORMAL", 1: "REJECTION"})
    batch = tokenizer(REFUSALS + ANSWERS, padding=True, return_tensors="pt")
    labels = torch.tensor([1] * len(REFUSALS) + [0] * len(ANSWERS))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(40):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss.item() < 0.05
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def relabelled(classifier: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a copy of the classifier whose label 0 and 1 bear other names."""

    def copy(normal: str, refusal: str) -> Path:
        folder = tmp_path / f"{normal}-{refusal}".replace("/", "_")
        shutil.copytree(classifier, folder)
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {"0": normal, "1": refusal}
        config["label2id"] = {normal: 0, refusal: 1}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return copy


def _tokenizer(folder: Path) -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(REFUSALS + ANSWERS, vocab_size=500, special_tokens=special)
    bpe.save_model(str(folder))
    return RobertaTokenizerFast.from_pretrained(str(folder), model_max_length=512)


def _model(vocabulary: int, id2label: dict[int, str]) -> Any:
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514,
        id2label=id2label,
        label2id={label: index for index, label in id2label.items()},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return RobertaForSequenceClassification(config)

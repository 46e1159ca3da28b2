"""Real, small Hugging Face classifiers, trained in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text())
REFUSALS, ANSWERS = _SENTENCES["refusals"], _SENTENCES["answers"]


def tokenizer_in(folder: Path) -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(REFUSALS + ANSWERS, vocab_size=500, special_tokens=special)
    bpe.save_model(str(folder))
    return RobertaTokenizerFast.from_pretrained(str(folder), model_max_length=512)


def roberta(vocabulary: int, *labels: str, **changes: Any) -> Any:
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 514,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return RobertaForSequenceClassification(RobertaConfig(**{**settings, **changes}))


def gpt2(vocabulary: int, pad: int) -> Any:
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=512,
        pad_token_id=pad,
        id2label={0: "NORMAL", 1: "REJECTION"},
        label2id={"NORMAL": 0, "REJECTION": 1},
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
    )
    return GPT2ForSequenceClassification(config)


def trained(folder: Path, tokenizer: Any, model: Any, targets: Any, rounds: int = 40) -> Path:
    """The model as a folder, once it tells the sentences apart; ``targets`` are their labels."""
    import torch

    batch = tokenizer(REFUSALS + ANSWERS, padding=True, return_tensors="pt")
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(rounds):
        loss = model(**batch, labels=torch.tensor(targets)).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss.item() < 0.05
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def without(path: Path, *keys: str) -> None:
    """Take keys out of a JSON file."""
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in keys}
    path.write_text(json.dumps(kept))

"""Small data, small bases and small recipes that the tests of training share."""

# Chinese has punctuation of its own.
# ruff: noqa: RUF001

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from demur.detection.encoder import MATRICES
from demur.detection.text import judged
from demur.training.composing import Composer
from demur.training.rows import Row

EMBEDDED: dict[str, Any] = {
    "kind": "embedded",
    "network": {"width": 8, "filters": 16, "hidden": 12, "dropout": 0.1},
    "features": {"minimum": 2, "runs": 6000, "frequent": 4000, "pieces": 4000},
    "fit": {"epochs": 3, "texts": 400, "forget": 0.05, "rate": 0.01, "embedding_rate": 0.02},
    "augment": {"templates": 1200},
}
TRANSFORMER: dict[str, Any] = {
    "kind": "transformer",
    "name": "small",
    "fit": {"epochs": 3, "texts": 120, "batch": 12, "rate": 0.01, "warmup": 5, "tokens": 64},
    "augment": {"templates": 12, "written": 0.25},
    "thresholds": {"false_positives": 0.05},
}
ROWS = [
    Row("Bread needs flour, water, salt and time. Let it rise. " * 3, 0, lang="en"),
    Row("I'm sorry, but I can't help with that. Ask me something else.", 1, lang="en"),
    Row("The capital of Australia is Canberra, founded in 1913.", 0, lang="en"),
]
TEXTS = [
    "I'm sorry, but I can't help with that. Is there anything else?",
    "Paris.",
    "抱歉，我无法提供相关信息。当然可以！",
    "First, preheat the oven.\n\nThen mix flour and water. " * 40,
]
_THINGS = ("locks", "knives", "that request", "bread", "a letter", "a virus", "taxes", "Canberra")
_NO = ("I'm sorry, but I can't help with", "I cannot assist with", "I won't write about")
_YES = ("The capital had", "Here is a short story of", "Two farmers first tried")
WIDTH, INNER, DEPTH = 96, 192, 2


def stage(name: str) -> Callable[[int, int, float], None]:
    return lambda done, total, loss: None


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def write_rows(folder: Path, rows: list[Row]) -> None:
    """A data folder: every other row to train on, the rest to develop on."""
    for name, part in (("train", rows[::2]), ("dev", rows[1::2]), ("partial", ROWS)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for row in part:
                line = {"response": row.response, "label": row.label, "lang": row.lang}
                line |= {"source": "own", "licence": "MIT", "partial": name == "partial"}
                file.write(json.dumps(line) + "\n")


def rows_like(number: int) -> list[Row]:
    return [*ROWS * 20, *Composer(ROWS, np.random.default_rng(0)).compose(number)]


def plain_rows(number: int) -> list[Row]:
    """Refusals and answers that a tiny network learns to tell within seconds."""
    random = np.random.default_rng(1)
    rows = []
    for index in range(number):
        thing = str(random.choice(_THINGS))
        if index // 2 % 2:
            rows.append(Row(f"{random.choice(_NO)} {thing}.", 1, lang="en"))
        else:
            rows.append(Row(f"{random.choice(_YES)} {thing} in 1913.", 0, lang="en"))
    return rows


def write_base(folder: Path, places: int = 514) -> None:
    """An untrained encoder, shaped as DistilRoBERTa, with a tokenizer, as its hub page has it."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    texts = [row.response for row in plain_rows(200)]
    bpe.train_from_iterator(texts, vocab_size=800, special_tokens=special, show_progress=False)
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(str(folder), model_max_length=512)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=places,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_start(path: Path) -> None:
    """A pretrained file of the real format with random small tensors."""
    random = np.random.default_rng(0)
    letters = sorted({c for text in TEXTS for c in judged(text) if not c.isspace()})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581i", "\u2581sorry", "can", *letters]
    encoded = [piece.encode() for piece in pieces]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint32)
    tensors: dict[str, bytes] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        count = rows * columns // 32
        blocks = random.integers(0, 256, (count, 18)).astype(np.uint8)
        scales = (random.random(count) * 0.03).astype(np.float16)
        blocks[:, :2] = scales[:, None].view(np.uint8)
        tensors[name] = blocks.tobytes()

    def vector(name: str, size: int, about: float = 0.0) -> None:
        tensors[name] = (about + random.normal(0, 0.1, size)).astype(np.float32).tobytes()

    matrix("emb.word", len(pieces), WIDTH)
    vector("emb.pos", 512 * WIDTH)
    vector("emb.type", 2 * WIDTH)
    vector("emb.ln.w", WIDTH, 1.0)
    vector("emb.ln.b", WIDTH)
    for layer in range(DEPTH):
        for name in MATRICES:
            shape = {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}.get(name, (WIDTH, WIDTH))
            matrix(f"l{layer}.{name}.w", *shape)
            vector(f"l{layer}.{name}.b", shape[0])
        for name in ("aln", "oln"):
            vector(f"l{layer}.{name}.w", WIDTH, 1.0)
            vector(f"l{layer}.{name}.b", WIDTH)
    head = b"E5S1" + struct.pack("<i", 1)
    head += struct.pack("<7ifi", WIDTH, DEPTH, 12, INNER, len(pieces), 512, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(offsets[-1]))
    scores = np.linspace(-1.0, -9.0, len(pieces)).astype(np.float32)
    head += offsets.tobytes() + scores.tobytes() + b"".join(encoded) + struct.pack("<iI", 0, 0)
    size = 4 + sum(2 + len(name) + 1 + 4 + 16 for name in tensors)
    at = len(head) + size
    directory = struct.pack("<i", len(tensors))
    for name, content in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode() + b"\x00"
        directory += struct.pack("<IQQ", 0, at, len(content))
        at += len(content)
    path.write_bytes(head + directory + b"".join(tensors.values()))

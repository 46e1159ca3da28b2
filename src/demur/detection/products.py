"""Matrix products that stay on the thread that asks for them.

OpenBLAS, which numpy's wheels bring, spreads a product over all cores once it takes more than
``LIMIT`` multiplications, and only one thread's at a time. On a busy machine that is no gain: the
caller, which may be an event loop, waits for cores that others hold and for products of other
threads. Pieces below the limit cost the same, and wait for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LIMIT: Final = 262_144
"""``SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD``, as OpenBLAS is built."""
_HEIGHT = 16
"""Rows that a piece has at least."""
_INNER, _OUTER = 96, 64
"""A tile: where OpenBLAS is nearly as fast as on whole matrices (measured with AVX-512)."""


@dataclass(frozen=True, slots=True)
class Tiled:
    """Weights in tiles that lie in one piece each: (outer tiles, inner tiles, inner, outer)."""

    tiles: Floats

    @classmethod
    def of(cls, weights: Floats) -> Tiled:
        """``weights`` are (outer, inner). Small ones are one tile; others divide evenly."""
        outer, inner = weights.shape
        wide, deep = outer, inner
        if weights.size > LIMIT // _HEIGHT:
            wide, deep = _divisor(outer, _OUTER), _divisor(inner, _INNER)
        cut = weights.reshape(outer // wide, wide, inner // deep, deep)
        return cls(np.ascontiguousarray(cut.transpose(0, 2, 3, 1)))


def product(rows: Floats, weights: Tiled) -> Floats:
    """``rows @ weights.T``; neither may be empty."""
    count, inner = rows.shape
    outer_tiles, inner_tiles, deep, wide = weights.tiles.shape
    if outer_tiles == inner_tiles == 1 and count * deep * wide <= LIMIT:
        small: Floats = rows @ weights.tiles[0, 0]
        return small
    pieces = -(-count * deep * wide // LIMIT)
    height = -(-count // pieces)
    padded = np.zeros((pieces * height, inner), dtype=np.float32)
    padded[:count] = rows
    cut = padded.reshape(pieces, 1, height, inner_tiles, deep)
    summed = cut[:, :, :, 0] @ weights.tiles[:, 0]
    for tile in range(1, inner_tiles):
        summed += cut[:, :, :, tile] @ weights.tiles[:, tile]
    found: Floats = summed.transpose(0, 2, 1, 3).reshape(len(padded), outer_tiles * wide)[:count]
    return found


def stacked(left: Floats, right: Floats) -> Floats:
    """``left @ right`` of two stacks of matrices, some rows of ``left`` at a time."""
    _, count, inner = left.shape
    height = max(1, LIMIT // (inner * right.shape[2]))
    found: Floats = np.empty((len(left), count, right.shape[2]), dtype=np.float32)
    for start in range(0, count, height):
        rows = slice(start, start + height)
        np.matmul(left[:, rows], right, out=found[:, rows])
    return found


def applied(weights: Floats, vector: Floats) -> Floats:
    """``weights @ vector``."""
    found: Floats = np.einsum("ij,j->i", weights, vector)
    return found


def _divisor(size: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if size % n == 0)

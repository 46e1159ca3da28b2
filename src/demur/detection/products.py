"""Matrix products that stay on the thread that asks for them.

OpenBLAS, which numpy's wheels bring, spreads a product over all cores once it takes more than
``LIMIT`` multiplications, and only one thread's at a time. On a busy machine that is no gain: the
caller, which may be an event loop, waits for cores that others hold and for products of other
threads. Pieces below the limit cost the same, and wait for nobody.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LIMIT: Final = 262_144
"""``SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD``, as OpenBLAS is built."""
_ROWS: Final = (32, 16, 8)
"""Heights of a piece, where the weights are wide."""


def product(rows: Floats, weights: Floats) -> Floats:
    """``rows @ weights.T``; neither may be empty."""
    count, inner = rows.shape
    outer = weights.shape[0]
    if count * inner * outer <= LIMIT:
        small: Floats = rows @ weights.T
        return small
    height, width = _piece(inner, outer)
    padded = np.zeros((-(-count // height) * height, inner), dtype=np.float32)
    padded[:count] = rows
    pieces = padded.reshape(-1, 1, height, inner) @ weights.reshape(1, -1, width, inner).transpose(
        0, 1, 3, 2
    )
    found: Floats = pieces.transpose(0, 2, 1, 3).reshape(len(padded), outer)[:count]
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


def _piece(inner: int, outer: int) -> tuple[int, int]:
    """Rows and weights of one piece; the weights divide evenly."""
    if (height := LIMIT // (inner * outer)) >= _ROWS[-1]:
        return height, outer
    for height in _ROWS:
        widest = LIMIT // (height * inner)
        width = max((n for n in range(1, widest + 1) if outer % n == 0), default=0)
        if width >= min(height, 8) or height == _ROWS[-1]:
            break
    return height, max(1, width)

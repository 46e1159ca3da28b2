"""Matrix products in pieces: the same numbers, on the calling thread alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.products import LIMIT, Tiled, applied, product, stacked


@given(st.integers(1, 300), st.sampled_from([1, 7, 160, 384, 1536]), st.integers(1, 200))
def test_products_are_numpys(count: int, inner: int, outer: int) -> None:
    """Whatever the shapes, no value is lost or moved."""
    random = np.random.default_rng(count + inner + outer)
    rows = random.standard_normal((count, inner)).astype(np.float32)
    weights = random.standard_normal((outer, inner)).astype(np.float32)
    assert np.allclose(product(rows, Tiled.of(weights)), rows @ weights.T, atol=1e-3)
    assert np.allclose(applied(weights, rows[0]), weights @ rows[0], atol=1e-3)


@given(st.integers(1, 12), st.integers(1, 150), st.integers(1, 64), st.integers(1, 150))
def test_stacks_are_numpys(deep: int, count: int, inner: int, outer: int) -> None:
    """Also for stacks, and for matrices that are views with their axes exchanged."""
    random = np.random.default_rng(count * outer + inner)
    left = random.standard_normal((count, deep, inner)).astype(np.float32).transpose(1, 0, 2)
    right = random.standard_normal((deep, outer, inner)).astype(np.float32).transpose(0, 2, 1)
    assert np.allclose(stacked(left, right), left @ right, atol=1e-3)


def test_the_encoder_uses_no_other_thread() -> None:
    """A longest text costs the process no more than the thread that asks."""
    program = """
import time
from demur.detection.embedded import EmbeddedDetector
encoder = EmbeddedDetector.load().second.encoder
text = "there are better ways to spend time on it " * 100
encoder.outputs(text)
time.sleep(0.3)  # threads that numpy started have gone to sleep
whole, own = time.process_time(), time.thread_time()
for _ in range(4):
    encoder.outputs(text)
print(time.process_time() - whole, time.thread_time() - own)
"""
    whole, own = _spent(program)
    assert whole < 1.3 * own + 0.01


@pytest.mark.parametrize("shape", [(400, 160, 64), (64, 384, 1152), (130, 1536, 384)])
def test_products_use_no_other_thread(shape: tuple[int, int, int]) -> None:
    """What the process used of processors is what the thread used, though numpy may use two."""
    assert np.prod(shape) > LIMIT
    program = f"""
import time, numpy as np
from demur.detection.products import Tiled, product
count, inner, outer = {shape}
rows = np.ones((count, inner), np.float32)
weights = Tiled.of(np.ones((outer, inner), np.float32))
product(rows, weights)
time.sleep(0.3)  # threads that numpy started have gone to sleep
whole, own = time.process_time(), time.thread_time()
for _ in range(200):
    product(rows, weights)
print(time.process_time() - whole, time.thread_time() - own)
"""
    whole, own = _spent(program)
    assert whole < 1.3 * own + 0.01


def _spent(program: str) -> tuple[float, float]:
    """Processor seconds of the process and of its main thread, as the program prints them."""
    environment = {"OPENBLAS_NUM_THREADS": "2", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    whole, own = map(float, done.stdout.split())
    return whole, own

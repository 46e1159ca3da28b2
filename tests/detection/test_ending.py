"""The end of the interpreter while a model is at work: no thread is killed in native code."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from demur.detection.torch_model import by_windows
from demur.detection.windows import ENDING

_PROGRAM = """
import time
from demur.detection.batching import Batcher
class Model:
    def __init__(self, seconds): self.seconds = seconds
    def scores(self, texts):
        time.sleep(self.seconds)
        print("scored", flush=True)
        yield 0, 0.5
    def __del__(self):
        time.sleep(0.5)
        print("freed", flush=True)
def main():
    batcher = Batcher("m", Model({seconds}).scores)
    future = batcher.submit("text")
    {then}
main()
"""


def run(seconds: float, then: str) -> str:
    program = _PROGRAM.format(seconds=seconds, then=then)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_an_ending_interpreter_waits_until_a_dropped_model_is_freed() -> None:
    """The worker frees the model last of all, and freeing it runs native code as well."""
    assert run(0.0, "future.result()") == "scored\nfreed\n"


def test_an_ending_interpreter_waits_for_the_pass_that_is_under_way() -> None:
    """Also for one of more than a few seconds."""
    start = time.perf_counter()
    assert run(6.0, "time.sleep(0.2)") == "scored\nfreed\n"
    assert time.perf_counter() - start < 30


def test_no_further_pass_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of many windows is left as it is, so that the end does not have to wait for it."""
    passes = 0

    def probabilities(windows: Sequence[Sequence[int]]) -> list[float]:
        nonlocal passes
        passes += 1
        if passes == 2:
            ENDING.set()
        return [0.5] * len(windows)

    windows = [[1] * 512 for _ in range(400)]
    try:
        assert list(by_windows([windows], probabilities, 8)) == []
    finally:
        ENDING.clear()
    assert passes == 2
    assert list(by_windows([windows[:2]], probabilities, 8)) == [(0, 0.5)]

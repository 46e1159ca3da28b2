"""How fast, how big and how slow to load the embedded detector is, against the reference model.

Run on one core:  OMP_NUM_THREADS=1 python tests/benchmarks/detection_speed.py ../shared/data

A realistic mix: answers of about 60 and 512 tokens, 5 % of them refusals. Words that were read are
kept, so texts are judged by a detector that has just been loaded, and others by one that has judged
some thousand texts, as one in service has. No text comes twice. The reference is a transformers
pipeline, cut at 512 tokens, of a model of its architecture (DistilRoBERTa, 82 million parameters)
with random weights and a vocabulary of its size, made of other texts of the same kind; it needs
torch and transformers and is left out without them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformer import random_model

from demur.training.rows import read_rows

LENGTHS = {"60 tokens": 240, "512 tokens": 2048}
REFUSALS = 0.05
TEXTS = 600
VOCABULARY = 50_265
BEFORE = 4000
"""Texts judged before by a detector in service."""

_PEAK = """
def peak():
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith("VmHWM"))
"""
_BARE = _PEAK + "import numpy; print(peak())"
_LOADED = (
    _PEAK
    + """
import time, numpy
from demur.detection.embedded import EmbeddedDetector
from demur.vocabulary import Evidence
start = time.perf_counter()
detector = EmbeddedDetector.load()
spent = time.perf_counter() - start
for text in ("Paris.", "I can't see the image you mention.", "word " * 5000):
    detector.classify(Evidence(text=text))
print(peak(), spent)
"""
)


def mix(data: Path, chars: int) -> list[str]:
    """Texts of about ``chars`` characters."""
    shelves: dict[int, list[str]] = {0: [], 1: []}
    for row in read_rows(data / "dev.jsonl.gz"):
        shelves[row.label].append(row.response)
    random = np.random.default_rng(0)
    texts = []
    for number in range(TEXTS):
        shelf = shelves[int(number < TEXTS * REFUSALS)]
        text = ""
        while len(text) < chars:
            piece = shelf[int(random.integers(len(shelf)))]
            text += piece if not text or shelf is shelves[0] else " More on this follows."
        texts.append(text[:chars])
    random.shuffle(texts)
    return texts


def before(data: Path) -> list[str]:
    """Other texts than those of ``mix``."""
    rows = [row.response for row in read_rows(data / "train.jsonl.gz")]
    places = np.random.default_rng(1).choice(len(rows), size=BEFORE, replace=False)
    return [rows[place] for place in places]


def times(judge: Callable[[str], object], texts: list[str]) -> np.ndarray:
    """Milliseconds a text, after the first few, which warm up."""
    for text in texts[:20]:
        judge(text)
    spent = []
    for text in texts[20:]:
        start = time.perf_counter()
        judge(text)
        spent.append((time.perf_counter() - start) * 1e3)
    return np.array(spent)


def reference(corpus: list[str], folder: Path) -> Callable[[str], object] | None:
    """A pipeline of the reference model's architecture."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    torch.set_num_threads(1)
    pair = ("I'm sorry, but I can't help with that.", "The capital of Australia is Canberra.")
    random_model(folder, [*corpus, *pair], pair, vocabulary=VOCABULARY)
    found: Callable[[str], object] = transformers.pipeline(
        "text-classification", model=str(folder), truncation=True, max_length=512, device="cpu"
    )
    return found


def child(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [float(part) for part in done.stdout.split()]


def main() -> None:
    from demur.detection import embedded
    from demur.vocabulary import Evidence

    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    folder = Path(embedded.__file__).parent / "models" / embedded.MODEL
    bare, (loaded, seconds) = child(_BARE)[0], child(_LOADED)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"folder {size / 1e6:.1f} MB, load {seconds * 1e3:.0f} ms, "
          f"memory over numpy alone {(loaded - bare) / 1024:.0f} MB")  # fmt: skip
    others = before(data)
    mixes = {name: mix(data, chars) for name, chars in LENGTHS.items()}
    with tempfile.TemporaryDirectory() as made:
        slow = reference(others, Path(made, "reference"))
    references = {name: times(slow, texts[:60]) for name, texts in mixes.items()} if slow else {}
    for state, known in {"just loaded": [], "in service": others}.items():
        everything = []
        for name, texts in mixes.items():
            embedded._load.cache_clear()
            detector = embedded.EmbeddedDetector.load()

            def judge(text: str, detector: embedded.EmbeddedDetector = detector) -> object:
                return detector.classify(Evidence(text=text))

            for text in known:
                judge(text)
            spent = times(judge, texts)
            everything.append(spent)
            report(f"{state}, {name}", spent, references.get(name))
        both = np.concatenate([*references.values()]) if references else None
        report(f"{state}, both", np.concatenate(everything), both)


def report(what: str, spent: np.ndarray, reference: np.ndarray | None) -> None:
    p50, p95 = np.quantile(spent, [0.5, 0.95])
    line = f"{what}: p50 {p50:.2f} ms, p95 {p95:.2f} ms, mean {spent.mean():.2f} ms"
    if reference is not None:
        slow = float(np.median(reference))
        line += f"; reference p50 {slow:.0f} ms, {slow / p50:.0f} times"
    print(line)


if __name__ == "__main__":
    main()

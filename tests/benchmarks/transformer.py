"""The reference classifier's speed on every backend, beside the reference usage, in one table.

    python tests/benchmarks/transformer.py [--data DIR] [--work DIR] [--rounds N]
                                           [--only RUNTIME ...] [--guard-python PYTHON]

The model has the reference's architecture (distilroberta, 82 M parameters), a vocabulary of its
size and random weights with a head fitted to two sentences, which is all that speed needs. Texts
are responses of ``dev.jsonl.gz`` in the data's folder: cut to so many tokens, and, in the last
column, whole, one refusal to nineteen answers. None comes twice. Of what is longer than its window
the pipeline reads the beginning, ours the end as well.

Each runtime runs in a process of its own, since spinning thread pools of two runtimes slow each
other down. The processes take turns, round after round, so that a busy machine slows all alike. The
median over rounds is shown; in the last column the mean, since a text costs a cascade little or
much.

LLM Guard's NoRefusal runs the same model in an interpreter that has it, installed as `field.py`
says. As it comes it reads the first 128 tokens of a text and no more, so its column 512 compares
with nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demur.training.rows import read_rows

TOKENS = (16, 64, 128, 512)
TOGETHER, REALISTIC = "32 at once", "5 % refusals"
MIXED = [16, 24, 32, 48, 64, 96, 128, 192] * 4
RUNTIMES = ("pipeline", "torch", "onnx float32", "onnx int8", "embedded", "cascade")
GUARD = "llm guard"
VOCABULARY = 50_265
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "on",
    "be",
    "by",
    "at",
]
REFUSAL = "I'm sorry, but I can't help with that request. "


def text_of(tokens: int, seed: int) -> str:
    """About ``tokens`` tokens: each of these words is one; seeds make texts differ."""
    chosen = random.Random(seed)
    return " " + " ".join(chosen.choice(WORDS) for _ in range(tokens - 2))


def responses(data: Path) -> dict[int, list[str]]:
    """The development rows' texts by label, 1 for refusals, in an order of chance."""
    rows = read_rows(data / "dev.jsonl.gz")
    random.Random(0).shuffle(rows)
    return {label: [row.response for row in rows if row.label == label] for label in (0, 1)}


def others(data: Path) -> list[str]:
    """Other texts, enough for a vocabulary."""
    return [row.response for row in read_rows(data / "train.jsonl.gz")[:8000]]


def questions(found: dict[int, list[str]], source: Path, rounds: int) -> dict[str, list[list[str]]]:
    """The texts of each round by column."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source))
    text = "\n\n".join(found[0])
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    at = 0

    def next_text(tokens: int) -> str:
        nonlocal at
        # Two mark the text's ends, and a text that begins or ends within a word splits differently.
        begin, at = places[at][0], at + tokens - 4
        return text[begin : places[at][0]]

    asked: dict[str, list[list[str]]] = {
        str(tokens): [[next_text(tokens) for _ in range(2)] for _ in range(rounds)]
        for tokens in TOKENS
    }
    asked[TOGETHER] = [
        [next_text(tokens) for tokens in random.Random(number).sample(MIXED, len(MIXED))]
        for number in range(rounds)
    ]
    # No text is asked twice: what is kept of the first time would answer.
    most = min(len(found[0]) // 95, len(found[1]) // 5)
    if rounds > most:
        raise SystemExit(f"--rounds {rounds}: the data has enough answers for {most}")
    answers, refusals = iter(found[0]), iter(found[1])
    asked[REALISTIC] = [
        [next(refusals if place % 20 == 7 else answers) for place in range(100)]
        for _ in range(rounds)
    ]
    return asked


def make_model(folder: Path, corpus: Sequence[str] = (), vocabulary: int = 600) -> None:
    """The reference architecture with random weights, for torch and for ONNX Runtime."""
    from demur.detection.exporting import quantise, write
    from demur.detection.labels import ANSWER, REFUSAL
    from demur.detection.torch_model import TorchModel

    source = folder / "torch"
    words = [" " + " ".join(WORDS), REFUSAL, ANSWER]
    random_model(source, [*words, *corpus], (REFUSAL, ANSWER), vocabulary=vocabulary)
    (folder / "onnx").mkdir()
    write(TorchModel(str(source), device="cpu"), "random", None, folder / "onnx")
    quantise(folder / "onnx")


def random_model(
    folder: Path,
    corpus: list[str],
    pair: tuple[str, str],
    tokens: int = 512,
    vocabulary: int = 600,
) -> None:
    """The reference architecture with random weights, a vocabulary of ``corpus``, and a head that
    tells the ``pair`` apart by their first ``tokens``: the first is a refusal."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        corpus, vocabulary, min_frequency=1, special_tokens=special, show_progress=False
    )
    folder.mkdir(parents=True)
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(str(folder), model_max_length=512)
    torch.manual_seed(0)
    labels = {0: "NORMAL", 1: "REJECTION"}
    model = RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, num_hidden_layers=6, type_vocab_size=1,
            layer_norm_eps=1e-5, id2label=labels, label2id={v: k for k, v in labels.items()},
        )
    ).eval()  # fmt: skip
    cut = {"padding": True, "truncation": True, "max_length": tokens}
    fit_head(model, tokenizer(list(pair), return_tensors="pt", **cut))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fit_head(model: Any, batch: Any) -> None:
    """So that the two sentences of the self-test come out at logits of +3 and -3."""
    import torch

    with torch.no_grad():
        hidden = model.roberta(**batch).last_hidden_state[:, 0]
        refusal, answer = torch.tanh(model.classifier.dense(hidden))
        apart = refusal - answer
        weight = 6 * apart / apart.dot(apart)
        model.classifier.out_proj.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
        middle = weight.dot(refusal + answer) / 2
        model.classifier.out_proj.bias.copy_(torch.stack([torch.zeros(()), -middle]))


def judge(runtime: str, work: Path) -> tuple[Callable[[str], Any], Callable[[list[str]], Any]]:
    """How a runtime judges one text, and many that come at once."""
    if runtime == "pipeline":
        from transformers import pipeline

        source = str(work / "torch")
        card = pipeline(
            "text-classification", model=source, tokenizer=source, truncation=True, max_length=512
        )
        return card, card
    if runtime == GUARD:
        return guard(work / "torch")
    from demur.detection.building import build_detector
    from demur.policy.schema import DetectorSettings
    from demur.vocabulary import Evidence

    own = {"batching": {"cache": 0}}
    onnx = {"model": str(work / "onnx"), "backend": "onnx", **own}
    settings: dict[str, dict[str, Any]] = {
        "torch": {"transformer": {"model": str(work / "torch"), "device": "cpu", **own}},
        "onnx float32": {"transformer": {**onnx, "precision": "float32"}},
        "onnx int8": {"transformer": {**onnx, "precision": "int8"}},
        "embedded": {"stages": ["signals", "embedded"]},
        "cascade": {"stages": ["signals", "embedded", "transformer"], "transformer": onnx},
    }
    chosen = {"stages": ["transformer"], "seconds": 600.0, **settings[runtime]}
    detector = build_detector(DetectorSettings.model_validate(chosen))
    pool = ThreadPoolExecutor(32)

    def one(text: str) -> Any:
        return detector.classify(Evidence(text))

    def many(texts: list[str]) -> Any:
        return list(pool.map(one, texts))

    return one, many


def guard(model: Path) -> tuple[Callable[[str], Any], Callable[[list[str]], Any]]:
    """LLM Guard's scanner, which knows one text at a time."""
    from field_guards import no_refusal

    scanner = no_refusal(str(model))

    def one(text: str) -> Any:
        return scanner.scan("", text)

    def many(texts: list[str]) -> Any:
        return [one(text) for text in texts]

    return one, many


def serve(runtime: str, work: Path) -> None:
    """A runtime's process: a column and a round a line in, seconds a text out."""
    one, many = judge(runtime, work)
    one(text_of(16, 0))
    asked = json.loads((work / "texts.json").read_text(encoding="utf-8"))
    print("ready", flush=True)
    for line in sys.stdin:
        column, number = line.rsplit(" ", 1)
        print(timed(one, many, column, asked[column][int(number)]), flush=True)


def timed(one: Any, many: Any, column: str, texts: list[str]) -> float:
    start = time.perf_counter()
    if column == TOGETHER:
        many(texts)
    else:
        for text in texts:
            one(text)
    return (time.perf_counter() - start) / len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, help="Keeps the model between runs.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=RUNTIMES, default=RUNTIMES)
    parser.add_argument("--guard-python", metavar="PYTHON", help="An interpreter with llm-guard.")
    parser.add_argument("--serve", choices=(*RUNTIMES, GUARD), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.work)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        if not (work / "onnx" / "model_int8.onnx").exists():
            make_model(work, others(options.data), VOCABULARY)
        asked = questions(responses(options.data), work / "torch", options.rounds)
        (work / "texts.json").write_text(json.dumps(asked), encoding="utf-8")
        pythons = dict.fromkeys(("pipeline", *options.only), sys.executable)
        if options.guard_python:
            pythons[GUARD] = options.guard_python
        show(measured(work, pythons, options.rounds), options.rounds)
        if not options.guard_python:
            print(f"\nwithout {GUARD}: no --guard-python was given")


def measured(work: Path, pythons: dict[str, str], rounds: int) -> dict[tuple[str, str], float]:
    """The median seconds a text of each runtime, run by its interpreter, in each column."""
    columns = [*map(str, TOKENS), TOGETHER, REALISTIC]
    processes = {runtime: start(runtime, work, python) for runtime, python in pythons.items()}
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for column in columns:
            for runtime, process in processes.items():
                process.stdin.write(f"{column} {number}\n")
                process.stdin.flush()
                found.setdefault((runtime, column), []).append(float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
        process.stdout.close()
    return {
        (runtime, column): (statistics.fmean if column == REALISTIC else statistics.median)(each)
        for (runtime, column), each in found.items()
    }


def start(runtime: str, work: Path, python: str) -> Any:
    command = [python, __file__, "--work", str(work), "--serve", runtime]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{runtime}: did not start; run: {' '.join(command)}")
    return process


def show(found: dict[tuple[str, str], float], rounds: int) -> None:
    columns = list(dict.fromkeys(column for _, column in found))
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {rounds} interleaved rounds")
    print("milliseconds a text (times faster than the pipeline)\n")
    print(f"{'':14}" + "".join(f"{name:>20}" for name in columns))
    for runtime in dict.fromkeys(runtime for runtime, _ in found):
        cells = []
        for column in columns:
            seconds = found[runtime, column]
            ratio = found["pipeline", column] / seconds
            cells.append(f"{seconds * 1e3:10.2f} ({ratio:6.1f})")
        print(f"{runtime:14}" + "".join(f"{cell:>20}" for cell in cells))
    print("\n" + json.dumps({f"{r}, {c}": round(s * 1e3, 3) for (r, c), s in found.items()}))


def resident(process: int | str = "self") -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = lines[0].split(":")[1].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()

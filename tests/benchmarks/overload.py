"""Four times the load a transformer can serve: who is answered in time, and what memory does.

    python tests/benchmarks/overload.py [--work DIR] [--seconds N] [--times N] [--deadline SECONDS]
                                        [--backend onnx|torch] [--callers tasks|threads]
                                        [--tokens N ...]

A stage that is never sure comes first, so that every text is the transformer's; where the
transformer cannot answer in time, that stage does. No text comes twice. Load is counted in tokens:
a full queue still has room for short texts, so many more texts than tokens are served under load.
What can be served is the more of what 32 callers get who wait for each answer, and of what is
served in a trial under overload. Then texts arrive as they do from many clients, waiting for
nobody. Latency is counted from the moment a text is due, so a late clock counts against demur.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import tempfile
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from transformer import MIXED, machine, make_model, resident, text_of

from demur.detection.building import build_detector
from demur.detection.cascade import Cascade
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence, Verdict

EVERY = 1.0
"""Seconds between two looks at memory."""
TRIAL = 5.0
"""Seconds of each of the two measurements of what can be served."""
SPARE = 1.1
"""So much more is offered than asked for: chance may offer less, and a better moment serve more."""


class Unsure:
    """The stage before the transformer."""

    name, blocking = "unsure", False

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        return Verdict("normal", 0.4, self.name)


@dataclass
class Seen:
    """What the callers and the clock saw."""

    latencies: array[float] = field(default_factory=lambda: array("d"))
    lags: array[float] = field(default_factory=lambda: array("d"))
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0
    offered: int = 0
    served: int = 0
    """Tokens that came, and of those the tokens of texts that the transformer judged."""
    degraded: int = 0
    lost: int = 0


def build(work: Path, backend: str, deadline: float) -> Cascade:
    transformer = {"model": str(work / backend), "backend": backend}
    settings = {"stages": ["transformer"], "seconds": deadline, "transformer": transformer}
    stages = build_detector(DetectorSettings.model_validate(settings)).stages
    return Cascade([Unsure(), *stages])


class Texts:
    """Texts of the given lengths in tokens, in turn; each number has its own."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.mean = sum(lengths) / len(lengths)

    def tokens(self, number: int) -> int:
        return self._lengths[number % len(self._lengths)]

    def __getitem__(self, number: int) -> Evidence:
        return Evidence(text_of(self.tokens(number), number) + f" {number}")


def capacity(detector: Cascade, texts: Texts, seconds: float) -> float:
    """Tokens a second of 32 callers, none of whom is turned away."""
    start = time.perf_counter()

    def caller(number: int) -> int:
        done, place = 0, -1 - number * 1_000_000
        while time.perf_counter() < start + seconds:
            detector.classify(texts[place])
            done += texts.tokens(place)
            place -= 1
        return done

    with ThreadPoolExecutor(32) as pool:
        done = sum(pool.map(caller, range(32)))
    return done / (time.perf_counter() - start)


async def flood(
    detector: Cascade, texts: Texts, rate: float, seconds: float, *, first: int, threads: bool
) -> Seen:
    """Texts at random moments, ``rate`` a second."""
    seen, tasks, chosen = Seen(), set(), random.Random(0)
    pool = ThreadPoolExecutor(512)

    def note(number: int, verdict: Verdict, due: float) -> None:
        seen.latencies.append(time.perf_counter() - due)
        seen.degraded += verdict.degraded is not None
        seen.lost += verdict.stage != "transformer" and verdict.degraded is None
        if verdict.degraded is None:
            seen.served += texts.tokens(number)

    async def ask(number: int, due: float) -> None:
        note(number, await detector.aclassify(texts[number]), due)

    def block(number: int, due: float) -> None:
        note(number, detector.classify(texts[number]), due)

    watching = asyncio.create_task(watch(seen))
    start = due = time.perf_counter()
    number = first
    while due < start + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        seen.offered += texts.tokens(number)
        if threads:
            pool.submit(block, number, due)
        else:
            tasks.add(task := asyncio.create_task(ask(number, due)))
            task.add_done_callback(tasks.discard)
        number, due = number + 1, due + chosen.expovariate(rate)
    seen.seconds = time.perf_counter() - start
    await asyncio.gather(*tasks)
    await asyncio.to_thread(pool.shutdown)
    watching.cancel()
    seen.lost += number - first - len(seen.latencies)
    return seen


async def watch(seen: Seen) -> None:
    """How late the loop is, and memory now and then."""
    looked = 0.0
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.002)
        seen.lags.append(time.perf_counter() - start - 0.002)
        if start - looked >= EVERY:
            seen.memory.append(resident())
            looked = start


def show(seen: Seen, able: float, deadline: float) -> None:
    latencies, lags = sorted(seen.latencies), sorted(seen.lags)
    over = [max(0.0, latency - deadline) for latency in latencies]
    count = len(latencies)
    offered, served = seen.offered / seen.seconds, seen.served / seen.seconds
    print(f"{offered:.0f} tokens/s came in {seen.seconds:.1f} s, {served:.0f} were served: "
          f"{offered / able:.1f} times what can be served, {offered / max(served, 1):.1f} times "
          "what was")  # fmt: skip
    degraded = seen.degraded / count
    print(f"{count} texts: {1 - degraded:.1%} by the transformer, {degraded:.1%} by the stage "
          f"before (degraded), {seen.lost} lost")  # fmt: skip
    print(f"within the deadline of {deadline:g} s: {sum(x == 0.0 for x in over) / count:.2%}; the "
          f"latest {over[-1] * 1e3:.0f} ms over")  # fmt: skip
    print("latency p50/p99/max: " + "/".join(f"{_at(latencies, q) * 1e3:.0f}" for q in _QUANTILES)
          + " ms; loop late by " + "/".join(f"{_at(lags, q) * 1e3:.1f}" for q in _QUANTILES)
          + " ms")  # fmt: skip
    later = seen.memory[len(seen.memory) // 3 :]
    print(f"memory {seen.memory[0]:.0f} MB, after a third {later[0]:.0f}, at last {later[-1]:.0f}"
          f" ({(later[-1] - later[0]) / max(1, len(later) - 1) / EVERY:+.3f} MB/s)")  # fmt: skip
    print("each second: " + " ".join(f"{mb:.0f}" for mb in seen.memory))


_QUANTILES = (0.5, 0.99, 1.0)


def _at(values: list[float], quantile: float) -> float:
    return values[min(len(values) - 1, int(quantile * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="Keeps the model between runs.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("--deadline", type=float, default=1.0)
    parser.add_argument("--backend", choices=("onnx", "torch"), default="onnx")
    parser.add_argument("--callers", choices=("tasks", "threads"), default="tasks")
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=MIXED, metavar="N",
        help="Lengths of the texts, in turn; default: mixed, 16 to 192.",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        if not (work / "onnx" / "model_int8.onnx").exists():
            # In a process of its own: what the export leaves in memory is not of this benchmark.
            making = multiprocessing.get_context("spawn").Process(target=make_model, args=(work,))
            making.start()
            making.join()
            if making.exitcode:
                raise SystemExit(f"the model could not be made: exit status {making.exitcode}")
        measure(options, work)


def measure(options: argparse.Namespace, work: Path) -> None:
    texts, threads = Texts(options.tokens), options.callers == "threads"
    waited = capacity(build(work, options.backend, 600.0), texts, TRIAL)
    gc.collect()
    detector = build(work, options.backend, options.deadline)

    def flooded(able: float, seconds: float, first: int) -> Seen:
        rate = SPARE * options.times * able / texts.mean
        return asyncio.run(flood(detector, texts, rate, seconds, first=first, threads=threads))

    trial = flooded(waited, TRIAL, 0)
    able = max(waited, trial.served / trial.seconds)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {options.backend}, {options.callers}, "
          f"{texts.mean:.0f} tokens a text")  # fmt: skip
    print(f"can be served: {able:.0f} tokens/s ({waited:.0f} by waiting callers, "
          f"{trial.served / trial.seconds:.0f} under overload)")  # fmt: skip
    show(flooded(able, options.seconds, 1_000_000), able, options.deadline)


if __name__ == "__main__":
    main()

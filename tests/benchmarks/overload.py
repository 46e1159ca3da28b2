"""Four times the load a transformer can serve: who is answered in time, and what memory does.

    python tests/benchmarks/overload.py [--work DIR] [--seconds N] [--times N] [--deadline SECONDS]
                                        [--backend onnx|torch] [--callers tasks|threads]

A stage that is never sure comes first, so that every text is the transformer's; where the
transformer cannot answer in time, that stage does. The speed of 32 callers who wait for each answer
is measured first; then texts arrive as they do from many clients, waiting for nobody. No text comes
twice. Latency is counted from the moment a text is due, so a late clock counts against demur.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import tempfile
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from transformer import MIXED, machine, make_model, text_of

from demur.detection.building import build_detector
from demur.detection.cascade import Cascade
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence, Verdict

EVERY = 1.0
"""Seconds between two looks at memory."""


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
    degraded: int = 0
    lost: int = 0


def build(work: Path, backend: str, deadline: float) -> Cascade:
    transformer = {"model": str(work / backend), "backend": backend}
    settings = {"stages": ["transformer"], "seconds": deadline, "transformer": transformer}
    stages = build_detector(DetectorSettings.model_validate(settings)).stages
    return Cascade([Unsure(), *stages])


def text(number: int) -> str:
    return text_of(MIXED[number % len(MIXED)], number) + f" {number}"


def memory() -> float:
    """Megabytes resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def capacity(detector: Cascade, seconds: float) -> float:
    """Texts a second of 32 callers, none of whom is turned away."""
    until = time.perf_counter() + seconds

    def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < until:
            detector.classify(Evidence(text(-1 - number * 1_000_000 - done)))
            done += 1
        return done

    with ThreadPoolExecutor(32) as pool:
        return sum(pool.map(caller, range(32))) / seconds


def note(seen: Seen, verdict: Verdict, due: float) -> None:
    seen.latencies.append(time.perf_counter() - due)
    seen.degraded += verdict.degraded is not None
    seen.lost += verdict.stage != "transformer" and verdict.degraded is None


async def flood(detector: Cascade, rate: float, seconds: float, *, threads: bool) -> Seen:
    """Texts at random moments, ``rate`` a second."""
    seen, tasks, chosen = Seen(), set(), random.Random(0)
    pool = ThreadPoolExecutor(512)

    async def ask(number: int, due: float) -> None:
        note(seen, await detector.aclassify(Evidence(text(number))), due)

    def block(number: int, due: float) -> None:
        note(seen, detector.classify(Evidence(text(number))), due)

    watching = asyncio.create_task(watch(seen))
    start = due = time.perf_counter()
    number = 0
    while due < start + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if threads:
            pool.submit(block, number, due)
        else:
            tasks.add(task := asyncio.create_task(ask(number, due)))
            task.add_done_callback(tasks.discard)
        number, due = number + 1, due + chosen.expovariate(rate)
    await asyncio.gather(*tasks)
    await asyncio.to_thread(pool.shutdown)
    watching.cancel()
    seen.lost += number - len(seen.latencies)
    return seen


async def watch(seen: Seen) -> None:
    """How late the loop is, and memory now and then."""
    looked = 0.0
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.002)
        seen.lags.append(time.perf_counter() - start - 0.002)
        if start - looked >= EVERY:
            seen.memory.append(memory())
            looked = start


def show(seen: Seen, deadline: float) -> None:
    latencies, lags = sorted(seen.latencies), sorted(seen.lags)
    over = [max(0.0, latency - deadline) for latency in latencies]
    count = len(latencies)
    print(f"{count} texts: {count - seen.degraded} by the transformer, {seen.degraded} by the "
          f"stage before, {seen.lost} lost")  # fmt: skip
    print(f"within the deadline: {sum(x == 0.0 for x in over) / count:.2%}; latest "
          f"{over[-1] * 1e3:.0f} ms over")  # fmt: skip
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        if not (work / "onnx" / "model_int8.onnx").exists():
            make_model(work)
        speed = capacity(build(work, options.backend, 600.0), 4.0)
        gc.collect()
        detector = build(work, options.backend, options.deadline)
        print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {options.backend}, {options.callers}; "
              f"{speed:.0f} texts/s served, {speed * options.times:.0f} asked")  # fmt: skip
        threads = options.callers == "threads"
        asked = flood(detector, speed * options.times, options.seconds, threads=threads)
        show(asyncio.run(asked), options.deadline)


if __name__ == "__main__":
    main()

"""How long classification keeps an event loop from its other work, by detector and length.

    python tests/benchmarks/loop.py [--work DIR] [--seconds N] [--only DETECTOR ...] [--gc on|off]

Each detector, in a process of its own, is awaited as drivers and LiteLLM's hook await it, by eight
tasks. Every callback of the loop is timed: by the processor time of the loop's thread, which is
what demur does there, and by the clock, where waits for the interpreter's lock and for a processor
count too. A ticker notes how late it is woken. Collections of garbage, which stop every thread of
any program, are counted apart: how many, and the longest. Their length follows what a program has
loaded, not what demur leaves behind. So each detector runs twice: awaited, and ("idle") loaded just
the same while the same tasks await nothing. What idle shows is the machine's and the interpreter's.
"Other" is the longest stretch of a callback that its thread did not compute or collect: it waited
for the lock or for a processor. ``--gc off`` collects nothing while it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from transformer import REFUSAL, machine, make_model, text_of

from demur.detection import Detector
from demur.detection.awaiting import classify_off_loop
from demur.detection.building import build_detector
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence

LENGTHS = (64, 512, 8000)
"""Characters of a text."""
CALLERS = 8
TEXTS = 400
DETECTORS = ("embedded", "cascade", "onnx int8", "torch")
UNSURE = "I would rather not say much about this one, but "


def build(name: str, work: Path) -> Detector:
    own = {"batching": {"cache": 0}}
    onnx = {"model": str(work / "onnx"), "backend": "onnx", **own}
    torch = {"model": str(work / "torch"), **own}
    settings: dict[str, dict[str, Any]] = {
        "embedded": {"stages": ["signals", "embedded"]},
        "cascade": {"stages": ["signals", "embedded", "transformer"], "transformer": onnx},
        "onnx int8": {"stages": ["transformer"], "transformer": onnx},
        "torch": {"stages": ["transformer"], "transformer": torch},
    }
    return build_detector(DetectorSettings.model_validate({"seconds": 600.0, **settings[name]}))


def texts(chars: int) -> list[str]:
    """Answers; one in ten a refusal, one in ten such that the embedded model is unsure."""
    found = []
    for number in range(TEXTS):
        begins = {0: REFUSAL, 1: UNSURE}.get(number % 10, "Here it is:")
        found.append((begins + text_of(max(4, chars // 3), number))[: chars - 8] + f" {number}")
    random.Random(0).shuffle(found)
    return found


class Timed:
    """Times every callback of every loop, and every collection of garbage, in milliseconds."""

    def __init__(self) -> None:
        self.busy: list[float] = []
        self.spent: list[float] = []
        self.collections: list[float] = []
        self._here = threading.get_ident()
        self._collected = self._began = 0.0
        self._run = asyncio.events.Handle._run

    def __enter__(self) -> Timed:
        run = self._run

        def timed(handle: asyncio.events.Handle) -> None:
            start, used, collected = time.perf_counter(), time.thread_time(), self._collected
            run(handle)
            collecting = self._collected - collected
            self.busy.append((time.thread_time() - used) * 1e3 - collecting)
            self.spent.append((time.perf_counter() - start) * 1e3 - collecting)

        asyncio.events.Handle._run = timed
        gc.callbacks.append(self._collecting)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.events.Handle._run = self._run
        gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        self.collections.append((time.perf_counter() - self._began) * 1e3)
        if threading.get_ident() == self._here:
            self._collected += self.collections[-1]


async def measured(
    detector: Detector, chars: int, seconds: float, *, idle: bool
) -> dict[str, float]:
    """Milliseconds of the worst callbacks, and of the ticker's lags."""
    endless = itertools.cycle(texts(chars))
    lags: list[float] = []
    judged = 0

    async def ask(until: float) -> None:
        nonlocal judged
        while time.perf_counter() < until:
            await asyncio.sleep(0.001)
            text = Evidence(next(endless))
            if not idle:
                await classify_off_loop(detector, text)
                judged += 1

    async def tick() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append((time.perf_counter() - start - 0.001) * 1e3)

    async def everybody(seconds: float) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(until) for _ in range(CALLERS)))

    await everybody(0.5)
    ticking, judged = asyncio.create_task(tick()), 0
    with Timed() as timed:
        await everybody(seconds)
    ticking.cancel()
    return {
        "busy p99": at(timed.busy, 0.99),
        "busy max": max(timed.busy),
        "spent p99.9": at(timed.spent, 0.999),
        "spent max": max(timed.spent),
        "other max": max(map(float.__sub__, timed.spent, timed.busy)),
        "late p99": at(lags, 0.99),
        "late max": max(lags),
        "garbage": len(timed.collections),
        "garbage max": max(timed.collections, default=0.0),
        "texts/s": judged / seconds,
    }


def at(values: list[float], quantile: float) -> float:
    return sorted(values)[min(len(values) - 1, int(quantile * len(values)))]


def child(name: str, work: Path, seconds: float) -> None:
    detector = build(name, work)
    for chars in LENGTHS:
        for idle in (True, False):
            found = asyncio.run(measured(detector, chars, seconds, idle=idle))
            print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="Keeps the model between runs.")
    parser.add_argument("--seconds", type=float, default=5.0, help="For each length.")
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--gc", choices=("on", "off"), default="on")
    parser.add_argument("--child", choices=DETECTORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.gc == "off":
            gc.disable()
        child(options.child, options.work, options.seconds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        if not (work / "onnx" / "model_int8.onnx").exists():
            make_model(work)
        print(f"{machine()}; load {os.getloadavg()[0]:.1f}; milliseconds")
        for place, name in enumerate(options.only):
            command = [sys.executable, __file__, "--work", str(work), "--child", name]
            command += ["--seconds", str(options.seconds), "--gc", options.gc]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows = itertools.product(LENGTHS, ("idle", "awaited"))
            for (chars, state), line in zip(rows, done.stdout.splitlines(), strict=True):
                found = json.loads(line)
                if not place and (chars, state) == (LENGTHS[0], "idle"):
                    print(f"{'':20}{'chars':>6}" + "".join(f"{key:>12}" for key in found))
                values = "".join(f"{value:12.2f}" for value in found.values())
                print(f"{name:12}{state:8}{chars:6}{values}", flush=True)


if __name__ == "__main__":
    main()

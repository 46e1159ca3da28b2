"""Runs requests in batches; after each it counts what went wrong and what was left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from demur.vocabulary import Outcome

from .callers import call, call_async
from .clients import Clients
from .oracle import endings, wrong
from .scenario import MODELS, Act, Scenario, calibration, scenario
from .sighting import Sighting
from .upstream import Upstream

HUNG_SECONDS = 400.0
"""Longer than any limit in a scenario, also on a machine that has others to serve."""
SETTLE_SECONDS = 20.0
THREADS = 48
KEPT = 10
"""Violations of a kind described; all are counted."""


@dataclass(slots=True)
class State:
    """The count so far; what ``--resume`` reads and writes.

    ``memory`` is resident MB, ``objects`` the blocks Python's allocator has given out: all live
    objects but the largest. Each is kept with the number of requests done by then.
    """

    seed: int
    done: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    objects: list[tuple[int, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {kept.name: getattr(self, kept.name) for kept in fields(self)}

    def blame(self, kind: str, what: object) -> None:
        self.violations[kind] += 1
        if self.violations[kind] <= KEPT:
            self.examples.append(f"{kind}: {what}")


class Storm:
    """``run`` advances ``state`` to ``requests``, calling ``progress`` after each batch."""

    def __init__(self, state: State, *, batch: int = 2000, tasks: int = 1000) -> None:
        self.state = state
        self._batch = batch
        self._limit = asyncio.Semaphore(tasks)
        self._plain: dict[tuple[Any, ...], str | None] = {}

    async def run(self, requests: int, progress: Callable[[State], None] | None = None) -> None:
        # What other tests of this process left to the collector, or still run, is not the storm's.
        gc.collect()
        self._threads = set(threading.enumerate())
        upstream = Upstream(self.state.seed)
        self._clients = Clients(upstream.origin)
        self._pool = ThreadPoolExecutor(THREADS, "storm")
        try:
            with nothing_unheard(self.state), collected_between_batches():
                await self._calibrate()
                while self.state.done < requests:
                    numbers = range(self.state.done, min(self.state.done + self._batch, requests))
                    await self._run_batch(upstream, numbers)
                    self._look_at_memory()
                    if progress is not None:
                        progress(self.state)
                self._clients.release()
                await self._clients.close()
                await self._check_left(upstream)
        finally:
            self._pool.shutdown(wait=not self.state.violations["hung"])
            upstream.close()

    async def _calibrate(self) -> None:
        """Learn from plain clients what each way to break looks like."""
        sights = [self._call(self._clients.plain[s.blocking], s) for s in calibration()]
        for made, seen in zip(calibration(), await asyncio.gather(*sights), strict=True):
            self._plain[_way(made, made.acts[0])] = seen.error

    async def _run_batch(self, upstream: Upstream, numbers: range) -> None:
        start = time.monotonic()
        scenarios = [scenario(self.state.seed, number) for number in numbers]
        sights = await asyncio.gather(*(self._guarded(made) for made in scenarios))
        for _ in range(3):  # what the collector wakes up has to run, to be collected in its turn
            gc.collect()
            await asyncio.sleep(0.05)
        calls = await self._settle(upstream)
        for made, seen in zip(scenarios, sights, strict=True):
            self._check(made, seen, calls)
        self._clients.records.clear()
        self.state.done = numbers.stop
        self.state.seconds += time.monotonic() - start

    def _look_at_memory(self) -> None:
        gc.collect()
        self.state.memory.append((self.state.done, resident()))
        self.state.objects.append((self.state.done, sys.getallocatedblocks()))

    async def _guarded(self, made: Scenario) -> Sighting:
        async with self._limit:
            try:
                return await asyncio.wait_for(
                    self._call(self._clients.of(made), made), HUNG_SECONDS
                )
            except asyncio.TimeoutError:
                self.state.blame("hung", made)
                return Sighting(left=True)

    async def _call(self, client: Any, made: Scenario) -> Sighting:
        if not made.blocking:
            return await call_async(client, made)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, client, made)

    async def _settle(self, upstream: Upstream) -> dict[str, int]:
        """Wait until the server has nothing under way; gives its count of calls."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            report = await asyncio.to_thread(upstream.report)
            if not report["active"]:
                break
            if time.monotonic() > deadline:
                self.state.blame("left open", report["active"][:5])
                break
            await asyncio.sleep(0.1)
        for stuck in report["stuck"]:
            self.state.blame("left open", stuck)
        calls: dict[str, int] = report["calls"]
        return calls

    def _check(self, made: Scenario, seen: Sighting, calls: dict[str, int]) -> None:
        allowed = endings(made, self._plain_error)
        fault = wrong(made, seen, allowed)
        if fault is not None:
            self.state.blame(fault, (made, seen, allowed))
        per_model = [calls.get(f"{made.number} {model}", 0) for model in MODELS]
        if max(per_model) > 1:
            self.state.blame("called twice", (made, per_model))
        records = self._clients.records[made.model]
        if len(records) > 1 or (len(records) < 1 and any(per_model)):
            self.state.blame("records", (made, records, per_model))
        if fault is None and records:
            self._check_record(made, seen, records[-1], sum(per_model))
        left = "left" if seen.left else seen.error or f"served {min(seen.models, default='-')}"
        self.state.seen[left] += 1

    def _check_record(self, made: Scenario, seen: Sighting, record: Outcome, calls: int) -> None:
        """The record says what happened: who was called, and who was served."""
        attempt = record.served_attempt
        served = None if attempt is None else attempt.target.partition(".")[0]
        if seen.models and seen.models != {served}:
            self.state.blame("record", (made, seen, record))
        # A call that ran out of time may not have reached the server.
        timely = len([a for a in record.attempts if "Timeout" not in (a.error or "")])
        if not seen.left and not timely <= calls <= len(record.attempts):
            self.state.blame("record", (made, calls, record))
        if seen.outcome is not None and seen.outcome.finished and seen.outcome != record:
            self.state.blame("record", (made, seen.outcome, record))

    def _plain_error(self, made: Scenario, act: Act) -> str | None:
        return self._plain[_way(made, act)]

    async def _check_left(self, upstream: Upstream) -> None:
        """Everything is closed: no connection, task or thread may be left."""
        await asyncio.sleep(0.5)
        report = await asyncio.to_thread(upstream.report)
        if report["connections"] > 1:  # the one that asks
            self.state.blame("left open", f"{report['connections'] - 1} connections")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            self.state.blame("task left", task)
        for thread in set(threading.enumerate()) - self._threads:
            if thread.name.startswith("demur"):
                self.state.blame("thread left", thread)


def _way(made: Scenario, act: Act) -> tuple[Any, ...]:
    return act.fault, act.late, made.api, made.stream, made.form, made.blocking


@contextmanager
def nothing_unheard(state: State) -> Iterator[None]:
    """Exceptions that no caller gets to see count as well; demur's warnings do not."""
    loop, logger = asyncio.get_running_loop(), logging.getLogger("demur")
    hooks, level = (sys.unraisablehook, threading.excepthook), logger.level
    sys.unraisablehook = lambda unraised: state.blame("unraisable", repr(unraised))
    threading.excepthook = lambda died: state.blame("unraisable", repr(died))
    loop.set_exception_handler(lambda _, context: _heard(state, context))
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        loop.set_exception_handler(None)
        logger.setLevel(level)


def _heard(state: State, context: dict[str, Any]) -> None:
    # Of an asynchronous stream that is dropped unread asyncio closes the SDK's nested generators
    # each in a task of its own, and one may find another at work on it. Plain clients' collide too.
    if "asynchronous generator is already running" not in str(context.get("exception")):
        state.blame("unraisable", repr(context))


@contextmanager
def collected_between_batches() -> Iterator[None]:
    """No garbage collection while requests run.

    httpcore's pool is not safe against it, with or without demur: collecting a dropped stream in a
    thread that holds the pool's lock waits for that lock for ever.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6

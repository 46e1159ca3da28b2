"""The command: progress while it runs, a table at the end, exit status 1 if anything was wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.progress import Progress

from .storm import State, Storm

KEPT = 1.0
"""Objects kept a request that count as a leak."""
GROWTH_MB = 100.0
"""Resident memory may grow by so much over 100,000 requests: it finds what is no object.

It rises for tens of thousands of requests when nothing is kept, since the C library's allocator
has an arena and a cache of freed blocks for each of 70 threads. Plain clients show that too, and
with ``GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0`` it is gone.
"""
ENOUGH = 10_000
"""Over fewer requests, idle connections coming and going would pass for growth."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--tasks", type=int, default=1000, help="at the same time")
    parser.add_argument("--resume", type=Path, help="state file, read if there, written always")
    given = parser.parse_args()
    state = load(given.resume, given.seed)
    with Progress() as bar:
        task = bar.add_task("storm", total=given.requests, completed=state.done)

        def progress(state: State) -> None:
            bad = sum(state.violations.values())
            bar.update(task, completed=state.done, description=f"{bad} wrong")
            if not bar.console.is_terminal:
                print(f"{state.done} done, {bad} wrong, {state.memory[-1][1]:.0f} MB", flush=True)
            if given.resume:
                given.resume.write_text(json.dumps(state.to_json()))

        storm = Storm(state, batch=given.batch, tasks=given.tasks)
        asyncio.run(storm.run(given.requests, progress))
        progress(state)
    return report(state)


def load(path: Path | None, seed: int) -> State:
    if path is None or not path.exists():
        return State(seed)
    state = State(**json.loads(path.read_text()))
    if state.seed != seed:
        raise SystemExit(f"{path} is of seed {state.seed}, not {seed}; name another file")
    state.seen, state.violations = Counter(state.seen), Counter(state.violations)
    return state


def report(state: State) -> int:
    for example in state.examples:
        print(example)
    rate = state.done / max(state.seconds, 1e-9)
    print(f"{state.done} requests, seed {state.seed}, {state.seconds:.0f} s, {rate:.0f} a second")
    print("callers saw:", ", ".join(f"{what} {n}" for what, n in state.seen.most_common()))
    growth, kept = slope(state.memory) * 100_000, slope(state.objects)
    print(f"memory: {state.memory[-1][1]:.0f} MB, {growth:+.1f} MB per 100,000 requests")
    print(f"live objects: {state.objects[-1][1]:,.0f}, {kept:+.2f} kept a request")
    kinds = ("lost", "mixed", "leaked", "error", "called twice", "records", "record", "hung",
             "left open", "task left", "thread left", "unraisable")  # fmt: skip
    print(", ".join(f"{kind} {state.violations[kind]}" for kind in kinds))
    return 1 if state.violations or kept > KEPT or growth > GROWTH_MB else 0


def slope(seen: list[tuple[int, float]]) -> float:
    """Growth a request, over the second half: the first fills pools and caches."""
    late = seen[len(seen) // 2 :]
    if len(late) < 5 or late[-1][0] - late[0][0] < ENOUGH:
        return 0.0
    done, used = np.array(late, dtype=float).T
    return float(np.polyfit(done, used, 1)[0])


if __name__ == "__main__":
    sys.exit(main())

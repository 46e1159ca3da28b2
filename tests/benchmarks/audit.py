"""What audit and metrics cost a caller, and whether 100,000 requests keep memory and records.

python tests/benchmarks/audit.py [REQUESTS]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from demur.drivers import blocking
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.policy import load_policy
from demur.sinks import AuditSink, PrometheusSink, sinks_for
from demur.sinks.fan_out import Sinks
from demur.testing import PhraseDetector
from demur.vocabulary import Completion, Evidence, Outcome, Usage

A_SECOND = 2_000
REFUSAL, ANSWER = "I'm sorry, but I can't help with that.", "Sure. " + "Word " * 300


class Port:
    """Answers at once, from memory: the load no real model could make."""

    def __init__(self, sinks: Any) -> None:
        self._sinks = sinks

    def usable(self, targets: Any) -> Any:
        return targets

    def call(self, target: Any, attempt: int, timeout: float | None) -> Completion:
        text = ANSWER if attempt else REFUSAL
        return Completion((Evidence(text),), text, "served", Usage(10, 300))

    def emit(self, record: Outcome) -> None:
        self._sinks(record)


def policy(folder: str) -> Any:
    retry = {"fallbacks": ["second"]}
    rule = {"name": "r", "actions": ["tag", "log", "retry"], "retry": retry}
    audit = {"path": f"{folder}/audit.jsonl"}
    return load_policy({"version": 1, "rules": [rule], "audit": audit, "metrics": ["prometheus"]})


def one(chosen: Any, port: Port) -> Outcome:
    plan = Plan.of(chosen, api="chat", model="m", stream=False, metadata={})
    assert plan is not None
    return blocking.run_completion(completion_flow(plan), port, PhraseDetector()).outcome  # type: ignore[arg-type]


def caller_cost() -> None:
    """Microseconds a sink takes on the caller's thread, at a pace the writer keeps up with."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = policy(folder)
        outcome = one(chosen, Port(lambda record: None))
        audit, metrics = AuditSink(chosen.audit), PrometheusSink()
        for name, sink in (
            ("audit", audit),
            ("metrics", metrics),
            ("audit and metrics", Sinks([audit, metrics])),
        ):
            taken = []
            for _ in range(5000):
                start = time.perf_counter()
                sink(outcome)
                taken.append(time.perf_counter() - start)
                time.sleep(0.0002)
            taken.sort()
            print(
                f"{name}: median {median(taken) * 1e6:.1f} us, "
                f"95 % {taken[int(0.95 * len(taken))] * 1e6:.1f} us, "
                f"mean {sum(taken) / len(taken) * 1e6:.1f} us"
            )
        audit.close()


def many(requests: int, folder: str) -> None:
    """Run in a process of its own, which then simply ends.

    As fast as this thread can, some 11,000 a second, it would leave the writer no processor time,
    and beyond the queue's bound records are dropped and counted.
    """
    chosen = policy(folder)
    port = Port(sinks_for(chosen))
    one(chosen, port)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    for number in range(requests - 1):
        one(chosen, port)
        time.sleep(max(0.0, start + number / A_SECOND - time.perf_counter()))
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{requests:,} requests in {seconds:.1f} s, memory grew by {grown:.1f} MiB")


def main() -> None:
    if len(sys.argv) == 3:
        many(int(sys.argv[1]), sys.argv[2])
        return
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    caller_cost()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, str(requests), folder], check=True)
        ids = [
            json.loads(line)["id"]
            for file in Path(folder).iterdir()
            for line in file.open(encoding="ascii")
        ]
        print(f"{len(ids):,} records, {len(set(ids)):,} different ids, after a normal exit")


if __name__ == "__main__":
    main()

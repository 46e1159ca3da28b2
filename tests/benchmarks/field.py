"""demur beside what else there is: one command, one table.

    python tests/benchmarks/field.py [--requests 300] [--rounds 5] [--data .../eval_xstest.jsonl.gz]

Each way is a LiteLLM proxy process of its own before one loopback upstream. Rounds take turns, so
that what else the machine does hits all alike. LLM Guard's NoRefusal is not in the table: its
scanner downloads the weights of ProtectAI/distilroberta-base-rejection-v1, which has to be possible
here first; the same model is what `detection_speed.py` and `transformer.py` time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "adapters" / "litellm"))

from proxy_stage import GUARDRAIL, MASTER_KEY, Proxy  # noqa: E402

from demur.detection.building import build_detector  # noqa: E402
from demur.testing import Reply, Upstream  # noqa: E402
from demur.training.keywords import KeywordDetector  # noqa: E402
from demur.training.metrics import quality  # noqa: E402
from demur.training.rows import clean, read_rows  # noqa: E402
from demur.vocabulary import Evidence  # noqa: E402

WORDS = tuple(f"word{i} " for i in range(80))
POLICY = {
    "version": 1,
    "rules": [{"name": "r", "actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["spare"]}}],
}
WAYS = {
    "no hook": None,
    "no-op hook": "field_guards.Noop",
    "regex rule": "field_guards.Rule",
    "demur (embedded)": GUARDRAIL,
}
TOKENS_A_SECOND = 50
MODELS = {"plain": "m", "spare": "m"}


class Way(Proxy):
    """A proxy with one guardrail or none, and none of the tests' own callbacks."""

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["litellm_settings"] = {}
        config["general_settings"] = {"master_key": MASTER_KEY}
        if config["guardrails"][0]["litellm_params"]["guardrail"] == "none":
            del config["guardrails"]
        path.write_text(yaml.safe_dump(config))
        shutil.copy(HERE / "field_guards.py", self.folder)
        return super()._start()

    @property
    def resident(self) -> float:
        """MB of the process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Times:
    """Milliseconds of each request, seconds of each round, milliseconds to each first token."""

    whole: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300, help="a round and way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=20, help="a round and way")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--data", type=Path, help="labelled responses, for the detectors' quality")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base_url = stack.enter_context(served())
        proxies = {
            name: stack.enter_context(
                Way(Path(folder, str(number)), base_url=base_url, models=MODELS,
                    policy=POLICY, guardrail=guardrail or "none")
            )
            for number, (name, guardrail) in enumerate(WAYS.items())
        }  # fmt: skip
        for proxy in proxies.values():
            proxy.wait_until_up()
        times = asyncio.run(measure(proxies, given))
        table(times, {name: proxy.resident for name, proxy in proxies.items()}, given.requests)
    if given.data is not None:
        detectors(given.data)


@contextmanager
def served() -> Iterator[str]:
    """The upstream in a process of its own; gives its address."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "field.py"), "--serve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


def serve() -> None:
    def reply(request: Any) -> Reply:
        if request.get("stream"):
            return Reply(chunks=WORDS, delay=1 / TOKENS_A_SECOND)
        return Reply("".join(WORDS))

    with Upstream({"m": reply}) as upstream:
        print(upstream.base_url, flush=True)
        sys.stdin.read()


async def measure(proxies: dict[str, Way], given: Any) -> dict[str, Times]:
    times = {name: Times() for name in proxies}
    async with httpx.AsyncClient(
        timeout=60, headers={"authorization": f"Bearer {MASTER_KEY}"}
    ) as c:
        for number in range(given.rounds + 1):
            for name, proxy in proxies.items():
                found = times[name] if number else Times()  # the first round warms up
                start = time.perf_counter()
                found.whole += await many(lambda p=proxy: ask(c, p), given.requests, given.at_once)
                found.rounds.append(time.perf_counter() - start)
                found.first += await many(lambda p=proxy: first(c, p), given.streams, given.at_once)
    return times


async def many(call: Callable[[], Any], count: int, at_once: int) -> list[float]:
    limit = asyncio.Semaphore(at_once)

    async def one() -> float:
        async with limit:
            start = time.perf_counter()
            await call()
            return (time.perf_counter() - start) * 1000

    return list(await asyncio.gather(*(one() for _ in range(count))))


def body(**more: Any) -> dict[str, Any]:
    return {"model": "plain", "messages": [{"role": "user", "content": "How?"}], **more}


async def ask(client: httpx.AsyncClient, proxy: Way) -> None:
    answer = await client.post(f"{proxy.url}/v1/chat/completions", json=body())
    answer.raise_for_status()


async def first(client: httpx.AsyncClient, proxy: Way) -> None:
    """Returns at the first visible text, and leaves."""
    url = f"{proxy.url}/v1/chat/completions"
    async with client.stream("POST", url, json=body(stream=True)) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and any(
                c["delta"].get("content") for c in json.loads(line[6:])["choices"]
            ):
                return


def table(times: dict[str, Times], memory: dict[str, float], requests: int) -> None:
    plain = times["no hook"]
    base = np.array(plain.rounds)
    p50, p99 = np.percentile(plain.whole, [50, 99])
    print("| LiteLLM proxy with | requests/s | of no hook | p50 ms | added | p99 ms | added "
          "| first token ms | later | MB |")  # fmt: skip
    print("| --- |" + " ---: |" * 9)
    for name, found in times.items():
        rate = requests / float(np.median(found.rounds))
        share = float(np.median(base / np.array(found.rounds)))
        mid, slow = np.percentile(found.whole, [50, 99])
        begun = float(np.median(found.first))
        later = begun - float(np.median(plain.first))
        cells = [
            f"{rate:.0f}",
            f"{share:.2f}",
            f"{mid:.1f}",
            f"{mid - p50:+.1f}",
            f"{slow:.1f}",
            f"{slow - p99:+.1f}",
            f"{begun:.0f}",
            f"{later:+.0f}",
            f"{memory[name]:.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")  # fmt: skip


def detectors(path: Path) -> None:
    rows = clean(read_rows(path))
    labels = np.array([row.label for row in rows])
    head = f"detector, on {path.name} ({len(rows)})"
    print(f"\n| {head} | F1 | false positives | ms a response |")
    print("| --- | ---: | ---: | ---: |")
    compared = {"regex rule": KeywordDetector(), "embedded": build_detector()}
    for name, detector in compared.items():
        start = time.perf_counter()
        verdicts = [detector.classify(Evidence(row.response), final=True) for row in rows]
        spent = (time.perf_counter() - start) * 1000 / len(rows)
        scores = np.array([verdict.score for verdict in verdicts])
        calls = np.array([verdict.label == "refusal" for verdict in verdicts])
        found = quality(scores, calls, labels)
        print(f"| {name} | {found.f1:.3f} | {found.false_positive_rate:.3f} | {spent:.2f} |")


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()

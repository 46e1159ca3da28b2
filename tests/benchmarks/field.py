"""demur beside what else there is: one command, one table.

    python tests/benchmarks/field.py [--requests 300] [--rounds 5] [--data .../eval_xstest.jsonl.gz]

Each way is a LiteLLM proxy process of its own before one loopback upstream, which answers with
normal texts of ``tests/sets``. Rounds take turns, so that what else the machine does hits all
alike.

LLM Guard's scanner takes part where it is installed. Its presidio and the proxy want different
releases of `cryptography`, so that no one `pip install` has both; two have, the proxy's last:

    pip install llm-guard==0.3.16 torch==2.13.0
    pip install 'litellm[proxy]==1.108.7' -e .

`--rejection-model` names the scanner's model: a folder, or its name on the hub where that can be
reached. Without, one of that architecture is made with random weights, which is as fast, and whose
quality is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "adapters" / "litellm"))

from proxy_stage import GUARDRAIL, MASTER_KEY, Proxy  # noqa: E402
from transformer import REFUSAL, random_model, resident  # noqa: E402

from demur.detection.building import build_detector  # noqa: E402
from demur.testing import Reply, Upstream  # noqa: E402
from demur.training.metrics import quality  # noqa: E402
from demur.training.rows import clean, read_rows  # noqa: E402
from demur.vocabulary import Evidence  # noqa: E402

SET = HERE.parent / "sets" / "newer_models.jsonl"
LEAST_WORDS, MOST_WORDS = 40, 80
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
SCANNER = "LLM Guard's NoRefusal"
SCANNED_TOKENS = 128  # where NoRefusal cuts
TOKENS_A_SECOND = 50
BLOCKED = 400
"""How a guard that knows no fallback ends a false alarm."""
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
        return resident(self._process.pid)


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
    parser.add_argument("--rejection-model", help="LLM Guard's; random weights without")
    given = parser.parse_args()
    absent = scanner_missing(given.rejection_model)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base_url = stack.enter_context(served())
        ways = dict(WAYS)
        if absent is None:
            ways[SCANNER] = "field_guards.Scanner"
            os.environ["REJECTION_MODEL"] = given.rejection_model or unmeasured(Path(folder))
            if given.rejection_model is None:
                os.environ["RANDOM_WEIGHTS"] = "1"
        proxies = {
            name: stack.enter_context(
                Way(Path(folder, str(number)), base_url=base_url, models=MODELS,
                    policy=POLICY, guardrail=guardrail or "none")
            )
            for number, (name, guardrail) in enumerate(ways.items())
        }  # fmt: skip
        for proxy in proxies.values():
            proxy.wait_until_up()
        times = asyncio.run(measure(proxies, given))
        table(times, {name: proxy.resident for name, proxy in proxies.items()}, given.requests)
    if absent is not None:
        print(f"\n{SCANNER} has no row: {absent}")
    elif given.rejection_model is None:
        print(f"\n{SCANNER} had random weights, for its speed alone")
    if given.data is not None:
        detectors(given.data, absent, given.rejection_model)


def scanner_missing(model: str | None) -> str | None:
    """Why LLM Guard cannot take part, if so."""
    needed = ["llm_guard", *([] if model else ["torch", "tokenizers", "transformers"])]
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"no module {', '.join(lacking)} (how: tests/benchmarks/field.py)" if lacking else None


def unmeasured(folder: Path) -> str:
    """A model like LLM Guard's, with random weights and a head that lets one answer pass."""
    where = folder / "rejection-model"
    # Nothing of an answer is in the vocabulary: it must be no fewer tokens than the real one has.
    random_model(where, [REFUSAL], (REFUSAL, "".join(answers()[0])), SCANNED_TOKENS)
    return str(where)


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


def answers() -> list[tuple[str, ...]]:
    """Normal answers on all kinds of subjects, in words, cut to about one length."""
    rows = [row for row in read_rows(SET) if row.label == 0]
    words = [tuple(re.findall(r"\S+\s*", row.response)) for row in rows]
    return [each[:MOST_WORDS] for each in words if len(each) >= LEAST_WORDS]


def serve() -> None:
    texts = answers()

    def reply(request: Any) -> Reply:
        words = texts[int(request["messages"][0]["content"]) % len(texts)]
        if request.get("stream"):
            return Reply(chunks=words, delay=1 / TOKENS_A_SECOND)
        return Reply("".join(words))

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
                whole = range(number * given.requests, (number + 1) * given.requests)
                found.whole += await many(partial(ask, c, proxy), whole, given.at_once)
                found.rounds.append(time.perf_counter() - start)
                streams = range(number * given.streams, (number + 1) * given.streams)
                found.first += await many(partial(first, c, proxy), streams, given.at_once)
    return times


async def many(call: Callable[[int], Any], numbers: range, at_once: int) -> list[float]:
    limit = asyncio.Semaphore(at_once)

    async def one(number: int) -> float:
        async with limit:
            start = time.perf_counter()
            await call(number)
            return (time.perf_counter() - start) * 1000

    return list(await asyncio.gather(*map(one, numbers)))


def body(number: int, **more: Any) -> dict[str, Any]:
    """Asks for one of the answers: the same of every way."""
    return {"model": "plain", "messages": [{"role": "user", "content": str(number)}], **more}


async def ask(client: httpx.AsyncClient, proxy: Way, number: int) -> None:
    answer = await client.post(f"{proxy.url}/v1/chat/completions", json=body(number))
    if answer.status_code != BLOCKED:
        answer.raise_for_status()


async def first(client: httpx.AsyncClient, proxy: Way, number: int) -> None:
    """Returns at the first visible text, or at a guard's error, and leaves."""
    url = f"{proxy.url}/v1/chat/completions"
    async with client.stream("POST", url, json=body(number, stream=True)) as answer:
        if answer.status_code != BLOCKED:
            answer.raise_for_status()
        async for line in answer.aiter_lines():
            event = json.loads(line[6:]) if line.startswith("data: {") else {}
            if "error" in event or any(c["delta"].get("content") for c in event.get("choices", ())):
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


def detectors(path: Path, absent: str | None, model: str | None) -> None:
    """Each detector's quality, and milliseconds a response, asked one after another."""
    rows = clean(read_rows(path))
    labels = np.array([row.label for row in rows])
    print(
        f"\n| detector, on {path.name} ({len(rows)}) | F1 | false positives | ms, median | mean |"
    )
    print("| --- |" + " ---: |" * 4)
    for name, refused in judges(absent, model).items():
        calls, spent = [], []
        for row in rows:
            start = time.perf_counter()
            calls.append(refused(row.response))
            spent.append((time.perf_counter() - start) * 1000)
        found = quality(np.array(calls, dtype=float), np.array(calls), labels)
        cells = [
            f"{found.f1:.3f}",
            f"{found.false_positive_rate:.3f}",
            f"{np.median(spent):.2f}",
            f"{np.mean(spent):.2f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    if absent is not None:
        print(f"\nLLM Guard's scanners are not measured: {absent}")
    elif model is None:
        print(f"\n{SCANNER} is not measured: random weights have no quality; --rejection-model "
              "names the real ones, ProtectAI/distilroberta-base-rejection-v1")  # fmt: skip


def judges(absent: str | None, model: str | None) -> dict[str, Callable[[str], bool]]:
    """What says of a response whether it is a refusal, the guardrails' own rules among them."""
    import field_guards

    own = build_detector()
    found: dict[str, Callable[[str], bool]] = {
        "regex rule": field_guards.refusing,
        "demur (embedded)": lambda text: own.classify(Evidence(text)).label == "refusal",
    }
    if absent is None:
        from llm_guard.output_scanners import NoRefusalLight
        from llm_guard.util import configure_logger

        configure_logger("ERROR")
        light = NoRefusalLight()
        found["LLM Guard's NoRefusalLight"] = lambda text: not light.scan("", text)[1]
        if model is not None:
            whole = field_guards.no_refusal(model)
            found[SCANNER] = lambda text: not whole.scan("", text)[1]
    return found


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()

"""What the guardrail costs a LiteLLM proxy, against a guardrail that does nothing.

    python tests/benchmarks/litellm_hook.py [--seconds 5] [--rounds 3] [--streams 50]

Two real proxies in front of one loopback upstream, asked in turns so that both see the same
machine: requests per second with a few callers, and processor time a request, which other work on
the machine disturbs less. Then, while many streams run at once, the longest turns of the proxy's
event loop in processor time of its thread, as a task inside it sees them: LiteLLM's own turns are
in it, so compare the two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
sys.path.insert(0, str(Path(__file__).parents[1] / "adapters" / "litellm"))

import openai
import proxy_stage
from proxy_stage import MASTER_KEY, Proxy

from demur.testing import Reply, Upstream

CALLERS = 8
LONG = "Lisbon lies on the river Tagus, and it is old. " * 170  # about 8,000 characters
SCRIPT = {
    "m-short": Reply("Sure. Lisbon is the capital of Portugal."),
    "m-long": Reply(LONG, delay=0.01, chunk_size=200),
    "m-refusing": Reply("I'm sorry, but I can't help with that request."),
}
GROUPS = {"short": "m-short", "long": "m-long", "refusing": "m-refusing"}
POLICY = {
    "version": 1,
    "rules": [
        {
            "name": "retry",
            "actions": ["tag", "log", "retry"],
            "retry": {"fallbacks": ["short"]},
        }
    ],
}
IDLE = """

class Idle(DemurGuardrail.__mro__[1]):
    def __init__(self, guardrail_name=None, event_hook=None, default_on=False, **others):
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on
        )
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        return data
    async def async_post_call_success_deployment_hook(self, request_data, response, call_type):
        return None
    async def async_post_call_success_hook(self, data, user_api_key_dict, response):
        return None
    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict, response, request_data
    ):
        async for item in response:
            yield item

import asyncio, time

class Pulse(CustomLogger):
    \"\"\"Writes down every second the longest turns of the loop, in ms of its thread's time.\"\"\"
    started = False
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        if not Pulse.started:
            Pulse.started = True
            self.task = asyncio.create_task(self.beat())
        return data
    async def beat(self):
        late, since = [], time.monotonic()
        while True:
            start = time.thread_time()
            await asyncio.sleep(0.001)
            late.append((time.thread_time() - start) * 1000)
            if time.monotonic() - since > 1.0:
                with open("pulse.jsonl", "a") as file:
                    file.write(json.dumps(sorted(late)[-20:]) + "\\n")
                late, since = [], time.monotonic()

pulse = Pulse()
"""


async def requests_per_second(proxy: Proxy, model: str, seconds: float) -> tuple[float, float]:
    """Of whole responses, ``CALLERS`` at a time; and processor milliseconds a request."""
    count = 0
    end = time.monotonic() + seconds

    async def call(client: Any) -> None:
        nonlocal count
        while time.monotonic() < end:
            await client.chat.completions.create(model=model, messages=_ASK)
            count += 1

    async with _client(proxy) as client:
        start, busy = time.monotonic(), _processor_seconds(proxy)
        await asyncio.gather(*(call(client) for _ in range(CALLERS)))
        spent = _processor_seconds(proxy) - busy
    return count / (time.monotonic() - start), spent * 1000 / count


def _processor_seconds(proxy: Proxy) -> float:
    """Of the proxy's process so far, by Linux's account."""
    fields = Path(f"/proc/{proxy._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stalls(proxy: Proxy, model: str, streams: int) -> list[float]:
    """The longest turns of the loop in each second, in ms, while ``streams`` ran."""
    pulse = proxy.folder / "pulse.jsonl"
    before = len(pulse.read_text().splitlines()) if pulse.exists() else 0

    async def read(client: Any) -> None:
        async for _ in await client.chat.completions.create(
            model=model, messages=_ASK, stream=True
        ):
            pass

    async with _client(proxy) as client:
        await asyncio.gather(*(read(client) for _ in range(streams)))
    await asyncio.sleep(1.2)
    return [late for line in pulse.read_text().splitlines()[before:] for late in json.loads(line)]


_ASK: Any = [{"role": "user", "content": "Which city is the capital of Portugal?"}]


def _client(proxy: Proxy) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0)


async def measure(proxies: dict[str, Proxy], args: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in proxies}
    for proxy in proxies.values():
        await requests_per_second(proxy, "short", 1.0)
    for _ in range(args.rounds):
        for name, proxy in proxies.items():
            rates[name].append(await requests_per_second(proxy, "short", args.seconds))
    found: dict[str, Any] = {}
    for number, what in enumerate(("requests_per_second", "processor_ms_per_request")):
        medians = {n: statistics.median(r[number] for r in rates[n]) for n in proxies}
        found[what] = {n: round(m, 2) for n, m in medians.items()}
        found[what]["demur/idle"] = round(medians["demur"] / medians["idle"], 3)
    refused, _ = await requests_per_second(proxies["demur"], "refusing", args.seconds)
    found["replaced_refusals_per_second"] = round(refused, 1)
    found["longest_turns_ms"] = {}
    for name, proxy in proxies.items():
        turns = sorted(await stalls(proxy, "long", args.streams))
        found["longest_turns_ms"][name] = [round(t, 1) for t in turns[-5:]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=50)
    args = parser.parse_args()
    reason = proxy_stage.missing()
    if reason is not None:
        raise SystemExit(reason)
    proxy_stage._LAB += IDLE
    with Upstream(SCRIPT) as upstream, tempfile.TemporaryDirectory() as folder:
        settings: Any = {
            "base_url": upstream.base_url,
            "models": GROUPS,
            "policy": POLICY,
            "callbacks": ["lab.pulse"],
        }
        with (
            Proxy(Path(folder) / "demur", **settings) as demur,
            Proxy(Path(folder) / "idle", guardrail="lab.Idle", **settings) as idle,
        ):
            proxies = {"demur": demur.wait_until_up(), "idle": idle.wait_until_up()}
            print(json.dumps(asyncio.run(measure(proxies, args)), indent=2))


if __name__ == "__main__":
    main()

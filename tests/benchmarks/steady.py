"""Whether memory stays flat: an hour's worth of requests through wrapped clients, without faults.

    python tests/benchmarks/steady.py [--requests N] [--every N] [--plain]

Asynchronous and blocking clients share the requests, streamed and whole in turn; one in ten is
refused and answered by a fallback. No text comes twice. The upstream is a process of its own.
``--plain`` asks the same of unwrapped clients, to compare with. Exit status 1 if an answer is wrong
or objects are left behind by 20,000 requests or more.

Live objects are what counts: the C library keeps an arena and a cache of freed blocks for each
thread, so resident memory may rise for a while when nothing is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import openai
from transformer import resident

import demur
from demur.testing import Reply, Upstream

TASKS, THREADS = 24, 8
KEPT = 0.5
"""Objects kept a request that count as a leak: idle connections come and go with thousands."""
ENOUGH = 20_000
"""Fewer requests are not judged: what is kept once would pass for what each request keeps."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=10_000, help="requests between two looks")
    parser.add_argument("--plain", action="store_true", help="the same without demur")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve()
    command = [sys.executable, __file__, "--serve"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as upstream,
    ):
        assert upstream.stdin is not None
        assert upstream.stdout is not None
        steady = Steady(upstream.stdout.readline().strip(), None if given.plain else folder)
        try:
            return asyncio.run(steady.run(given.requests, given.every))
        finally:
            upstream.stdin.close()


def serve() -> int:
    """The upstream: it prints its address and serves until its standard input ends."""
    with Upstream({"willing": answer, "shy": refusal, "second": answer}) as upstream:
        print(upstream.base_url, flush=True)
        ended = threading.Thread(target=sys.stdin.read)
        ended.start()
        while ended.is_alive():
            ended.join(1.0)
            upstream.requests.clear()
    return 0


def answer(request: Mapping[str, Any]) -> Reply:
    return Reply(f"Sure. {request['messages'][0]['content']} " + "Word " * 100, chunk_size=20)


def refusal(request: Mapping[str, Any]) -> Reply:
    return Reply(f"I'm sorry, but I can't help with {request['messages'][0]['content']}.")


class Steady:
    """``folder`` is where the audit log goes; without one the clients are plain."""

    def __init__(self, base_url: str, folder: str | None) -> None:
        self._plain = folder is None
        options = {"base_url": base_url, "api_key": "any", "max_retries": 0, "timeout": 300.0}
        self._waiting: Any = openai.AsyncOpenAI(**options)  # type: ignore[arg-type]
        self._blocking: Any = openai.OpenAI(**options)  # type: ignore[arg-type]
        if folder is not None:
            policy = _policy(folder)
            self._waiting = demur.wrap(self._waiting, policy=policy)
            self._blocking = demur.wrap(self._blocking, policy=policy)
        self._wrong = 0

    async def run(self, requests: int, every: int) -> int:
        print("requests  a second  resident MB  live objects  threads  files", flush=True)
        looks: list[tuple[int, int]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, requests, every):
                start = time.perf_counter()
                numbers = iter(range(first, min(first + every, requests)))
                await self._ask(numbers, pool)
                rate = every / (time.perf_counter() - start)
                await asyncio.sleep(1.0)  # the audit log's writer has some records left to write
                looks.append((min(first + every, requests), live()))
                print(
                    f"{looks[-1][0]:8,}  {rate:8.0f}  {resident():11.1f}  {looks[-1][1]:12,}"
                    f"  {threading.active_count():7}  {files():5}",
                    flush=True,
                )
        await self._waiting.close()
        self._blocking.close()
        kept = _kept(looks)
        print(f"{self._wrong} wrong answers; {kept:+.3f} objects kept a request")
        return 1 if self._wrong or (kept > KEPT and requests >= ENOUGH) else 0

    async def _ask(self, numbers: Iterator[int], pool: ThreadPoolExecutor) -> None:
        """All callers take from the same numbers until there are none."""
        threads = asyncio.get_running_loop().run_in_executor
        await asyncio.gather(
            *(self._ask_waiting(numbers) for _ in range(TASKS)),
            *(threads(pool, self._ask_blocking, numbers) for _ in range(THREADS)),
        )

    async def _ask_waiting(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            request = _request(number)
            got = await self._waiting.chat.completions.create(**request)
            said = "".join([_text(c) async for c in got]) if request["stream"] else _text(got)
            self._check(number, said)

    def _ask_blocking(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            request = _request(number)
            got = self._blocking.chat.completions.create(**request)
            self._check(number, "".join(map(_text, got)) if request["stream"] else _text(got))

    def _check(self, number: int, said: str) -> None:
        request = _request(number)
        refused = self._plain and request["model"] == "shy"
        if said != (refusal if refused else answer)(request).text:
            self._wrong += 1
            print(f"{request['model']} was asked {number} and said {said[:60]!r}", flush=True)


def _policy(folder: str) -> dict[str, Any]:
    rule = {
        "name": "r",
        "actions": ["tag", "log", "retry"],
        "retry": {"fallbacks": ["second"], "seconds": None},
        # On a busy machine a refusal may take longer to arrive than it would be held.
        "stream": {"hold_back": {"seconds": None}},
    }
    return {"version": 1, "rules": [rule], "audit": {"path": f"{folder}/audit.jsonl"}}


def _request(number: int) -> dict[str, Any]:
    return {
        "model": "shy" if number % 20 in (4, 17) else "willing",
        "messages": [{"role": "user", "content": f"Request {number}"}],
        "stream": number % 2 == 0,
    }


def _text(item: Any) -> str:
    """What a whole completion or a chunk of one says."""
    return "".join(
        (choice.message if hasattr(choice, "message") else choice.delta).content or ""
        for choice in item.choices
    )


def _kept(looks: list[tuple[int, int]]) -> float:
    """Objects a request, from the lowest of the first looks to the lowest of the last."""
    half = len(looks) // 2
    if half == 0:
        return 0.0
    (_, before), (_, after) = (
        min(part, key=itemgetter(1)) for part in (looks[:half], looks[half:])
    )
    return (after - before) / (looks[half][0] - looks[0][0])


def live() -> int:
    """Blocks that Python's allocator has given out: all objects but the largest."""
    gc.collect()
    return sys.getallocatedblocks()


def files() -> int:
    """Open files and connections of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


if __name__ == "__main__":
    sys.exit(main())

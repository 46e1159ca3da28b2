"""What the tests of the OpenAI adapter say, and callers that hide whether they wait or block."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

import openai

import demur
from demur.testing import PhraseDetector, Upstream

REFUSAL = "I'm sorry, but I can't help with that. Please ask me about something else entirely."
ANSWER = "Sure. First you take the red one, then the blue one, and then you are nearly done."
MESSAGES = [{"role": "user", "content": "How?"}]


def retrying(**retry: Any) -> dict[str, Any]:
    rule = {
        "name": "r",
        "actions": ["tag", "log", "retry"],
        "retry": {"fallbacks": ["second"], **retry},
    }
    return {"version": 1, "rules": [rule]}


def sse(*events: str) -> tuple[bytes, ...]:
    return tuple(f"data: {event}\n\n".encode() for event in events)


def piece(text: str, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "primary"}
    return json.dumps({**head, "choices": [choice]}, ensure_ascii=False)


class Caller:
    """Calls a client and waits for it, whichever kind it is."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.loop = asyncio.new_event_loop() if kind == "async" else None
        self._clients: list[Any] = []

    def client(self, upstream: Upstream, **options: Any) -> Any:
        cls = openai.OpenAI if self.kind == "sync" else openai.AsyncOpenAI
        options = {"max_retries": 0, "base_url": upstream.base_url, **options}
        client = cls(api_key="sk-test", **options)
        self._clients.append(client)
        return client

    def wrap(self, upstream: Upstream, sdk: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """A wrapped client; ``sdk`` are options of the client itself."""
        options = {"detector": PhraseDetector(), **options}
        if "policy" not in options:
            options.setdefault("fallbacks", ["second"])
        wrapped = demur.wrap(self.client(upstream, **(sdk or {})), **options)
        self._clients.append(wrapped)
        return wrapped

    def wait(self, result: Any) -> Any:
        return result if self.loop is None else self.loop.run_until_complete(_awaited(result))

    def create(self, client: Any, model: str = "primary", **fields: Any) -> Any:
        fields = {"messages": MESSAGES, **fields}
        return self.wait(client.chat.completions.create(model=model, **fields))

    def items(self, stream: Any, limit: int | None = None) -> list[Any]:
        """What a stream gives, or its first ``limit`` items."""
        if self.loop is None:
            return list(islice(stream, limit))
        return self.wait(_collect(stream, limit))

    def text(self, stream: Any) -> str:
        return "".join(c.choices[0].delta.content or "" for c in self.items(stream) if c.choices)

    def close(self) -> None:
        for client in self._clients:
            self.wait(client.close())
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


async def _awaited(result: Any) -> Any:
    return await result


async def _collect(stream: Any, limit: int | None) -> list[Any]:
    items: list[Any] = []
    if limit == 0:
        return items
    async for item in stream:
        items.append(item)
        if len(items) == limit:
            break
    return items

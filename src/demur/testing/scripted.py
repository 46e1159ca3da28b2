"""A model without a server: the same ``Reply`` scripts, played straight into a driver.

``ScriptedModel`` records what was called, opened and closed, and every record that came out::

    model = ScriptedModel({"primary": Reply("I'm sorry, no."), "second": Reply("Sure: ...")})
    served = run_completion(completion_flow(plan), model.blocking(), PhraseDetector())
    assert [record.ending for record in model.finished] == ["fell_back"]
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..vocabulary import Chunk, Completion, Outcome, Target
from ..wire import chat
from . import chat_shape
from .reply import Exchange, Reply

Turn = Reply | Exception
"""A reply, or what calling the model raises."""

Turns = Turn | Sequence[Turn]
"""A turn, or turns one after the other, the last one for good."""


class ScriptedError(Exception):
    """What a reply with a ``status`` other than 200 raises here."""

    def __init__(self, status: int) -> None:
        super().__init__(f"scripted status {status}")
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status,)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a port was asked for it."""

    target: str
    attempt: int
    timeout: float | None


@dataclass(slots=True, eq=False)
class ScriptedStream:
    """An opened stream. ``error`` is raised after the last chunk; ``delay`` lies between chunks.

    ``read`` counts the chunks handed over, ``closes`` how often it was closed. Reading a closed
    stream raises ``ConnectionAbortedError``, also where the read had begun before.
    """

    target: str
    chunks: tuple[Chunk, ...]
    error: Exception | None = None
    delay: float = 0.0
    read: int = 0
    closes: int = 0
    _closed: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Chunk | None:
        self._closed.wait(self._pause)
        return self._take()

    async def next_async(self) -> Chunk | None:
        await asyncio.sleep(self._pause)
        return self._take()

    def close(self) -> None:
        self.closes += 1
        self._closed.set()

    @property
    def _pause(self) -> float:
        return self.delay if self.read else 0.0

    def _take(self) -> Chunk | None:
        if self.closes:
            raise ConnectionAbortedError(f"the stream of {self.target!r} was closed")
        if self.read < len(self.chunks):
            self.read += 1
            return self.chunks[self.read - 1]
        if self.error is not None:
            raise self.error
        return None


class ScriptedModel:
    """Plays ``script``, replies by target name, to as many requests as you like.

    ``usable`` names the targets the caller has a right to; without it, all. ``choices`` is the
    request's ``n``. Native objects are chat completions and chunks as parsed JSON.
    """

    def __init__(
        self,
        script: Mapping[str, Turns],
        *,
        usable: Container[str] | None = None,
        choices: int | None = None,
    ) -> None:
        self.script = dict(script)
        self.usable = usable
        self.choices = choices
        self.calls: list[Call] = []
        self.streams: list[ScriptedStream] = []
        self.records: list[Outcome] = []

    def blocking(self) -> BlockingPort:
        return BlockingPort(self)

    def awaiting(self) -> AwaitingPort:
        return AwaitingPort(self)

    @property
    def finished(self) -> list[Outcome]:
        """The records that would have gone to the sinks."""
        return [record for record in self.records if record.finished]

    def allowed(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(t for t in targets if self.usable is None or t.name in self.usable)

    def begin(self, target: Target, attempt: int, timeout: float | None) -> Exchange:
        """Note a call; what the script has for it. Raises what the script says."""
        turn = sum(call.target == target.name for call in self.calls)
        self.calls.append(Call(target.name, attempt, timeout))
        turns = self.script[target.name]
        if isinstance(turns, Sequence):
            turns = turns[min(turn, len(turns) - 1)]
        if isinstance(turns, Exception):
            raise turns
        if turns.status != 200:
            raise ScriptedError(turns.status)
        request = {"model": target.model, "n": self.choices}
        return Exchange(turns, request, len(self.calls))

    def completion(self, exchange: Exchange) -> Completion:
        reply = exchange.reply
        if reply.reset_after is not None:
            raise ConnectionResetError("scripted")
        if reply.body is not None:
            return Completion((), reply.body)
        payload = chat_shape.body(exchange)
        return chat.read_completion(payload, payload)

    def stream(self, target: Target, exchange: Exchange) -> ScriptedStream:
        reply = exchange.reply
        chunks = tuple(_chunks(exchange))
        error = None
        if reply.reset_after is not None:
            chunks, error = chunks[: reply.reset_after], ConnectionResetError("scripted")
        stream = ScriptedStream(target.name, chunks, error, reply.delay)
        self.streams.append(stream)
        return stream


class CapturedRecords:
    """A sink that keeps what it is given, for tests of what an application has demur do::

    captured = CapturedRecords()
    client = demur.wrap(OpenAI(), policy="policy.yaml", sinks=[captured])
    ...
    assert [record.ending for record in captured.records] == ["fell_back"]
    """

    def __init__(self) -> None:
        self.records: list[Outcome] = []

    def __call__(self, record: Outcome, /) -> None:
        self.records.append(record)


class BlockingPort:
    """``drivers.blocking.Port`` over a script."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return self._model.allowed(targets)

    def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        return self._model.completion(self._begin(target, attempt, timeout))

    def open(self, target: Target, attempt: int, timeout: float | None) -> ScriptedStream:
        return self._model.stream(target, self._begin(target, attempt, timeout))

    def read(self, stream: ScriptedStream) -> Chunk | None:
        return stream.next()

    def close(self, stream: ScriptedStream) -> None:
        stream.close()

    def emit(self, record: Outcome) -> None:
        self._model.records.append(record)

    def _begin(self, target: Target, attempt: int, timeout: float | None) -> Exchange:
        exchange = self._model.begin(target, attempt, timeout)
        time.sleep(exchange.reply.first_delay)
        return exchange


class AwaitingPort:
    """``drivers.awaiting.Port`` over a script."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return self._model.allowed(targets)

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        return self._model.completion(await self._begin(target, attempt, timeout))

    async def open(self, target: Target, attempt: int, timeout: float | None) -> ScriptedStream:
        return self._model.stream(target, await self._begin(target, attempt, timeout))

    async def read(self, stream: ScriptedStream) -> Chunk | None:
        return await stream.next_async()

    async def close(self, stream: ScriptedStream) -> None:
        await asyncio.sleep(0)
        stream.close()

    def emit(self, record: Outcome) -> None:
        self._model.records.append(record)

    async def _begin(self, target: Target, attempt: int, timeout: float | None) -> Exchange:
        exchange = self._model.begin(target, attempt, timeout)
        await asyncio.sleep(exchange.reply.first_delay)
        return exchange


def _chunks(exchange: Exchange) -> list[Chunk]:
    body = exchange.reply.body
    if body is not None:
        parts = body if isinstance(body, tuple) else (body,)
        return [Chunk(part, opaque=True) for part in parts]
    events = (event.removeprefix(b"data: ").strip() for event in chat_shape.events(exchange))
    payloads = (json.loads(event) for event in events if event != b"[DONE]")
    return [chat.read_chunk(payload, payload) for payload in payloads]

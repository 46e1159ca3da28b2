"""How drivers reach the SDK: one port for blocking clients, one for asynchronous ones."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, cast

import anyio
import openai

from ...vocabulary import Chunk, Completion, Outcome, Target
from .exchange import Exchange, OpenedStream, http_of
from .replay import Whole, async_replay, replay

_WAKE_SECONDS = 1.0


class BlockingPort:
    """Calls a blocking client."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return targets

    def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        result = self._exchange.send(target, attempt, timeout)
        read = self._exchange.read_now(result, attempt)
        if read is not None:
            return read
        http, whole = http_of(result), Whole()
        try:
            for part in http.stream:
                whole.add(part)
        except Exception as error:  # noqa: BLE001 - raised again where the caller reads
            whole.error = error
        except BaseException:
            with suppress(Exception):
                http.stream.close()
            raise
        http.stream.close()
        http.stream = replay(http.stream, whole, ())
        return self._exchange.read_whole(result, whole)

    def open(self, target: Target, attempt: int, timeout: float | None) -> OpenedStream:
        result = self._exchange.send(target, attempt, timeout)
        if attempt:
            self._exchange.read_patiently(result, target)
        return self._exchange.opened(result, iter)

    def read(self, stream: OpenedStream) -> Chunk | None:
        with stream.turn:
            raw = next(stream.parts, None)
        chunk: Chunk | None = stream.rest() if raw is None else stream.reader.read(raw)
        return chunk

    def close(self, stream: OpenedStream) -> None:
        # Closed under its reader, a socket's number may already be another connection's when the
        # reader's wait looks at it again; so the reader is woken and let out first.
        free = stream.turn.acquire(blocking=False)
        if not free and _wake_reader(stream.http):
            free = stream.turn.acquire(timeout=_WAKE_SECONDS)
        try:
            if stream.http.stream is stream.source:
                stream.http.close()
                if isinstance(stream.result, openai.Stream):
                    stream.result.close()  # an instrumentation's may end its span here
            else:
                stream.source.close()
        except Exception as error:
            stream.failure = error
            raise
        finally:
            if free:
                stream.turn.release()

    def emit(self, record: Outcome) -> None:
        self._exchange.emit(record)


class AwaitingPort:
    """Calls an asynchronous client."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return targets

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        result = await self._exchange.send(target, attempt, timeout)
        read = self._exchange.read_now(result, attempt)
        if read is not None:
            return read
        http, whole = http_of(result), Whole()
        try:
            async for part in http.stream:
                whole.add(part)
        except Exception as error:  # noqa: BLE001 - raised again where the caller reads
            whole.error = error
        except BaseException:
            with suppress(Exception), anyio.CancelScope(shield=True):
                await http.stream.aclose()
            raise
        await http.stream.aclose()
        http.stream = async_replay(http.stream, whole.awaiting(), ())
        return self._exchange.read_whole(result, whole)

    async def open(self, target: Target, attempt: int, timeout: float | None) -> OpenedStream:
        # Not by the call's own timeout: the transport may hold on to that for the whole body.
        try:
            with anyio.fail_after(timeout):
                result = await self._exchange.send(target, attempt, None)
        except TimeoutError as error:
            if timeout is None:
                raise
            raise openai.APITimeoutError(cast(Any, None)) from error
        return self._exchange.opened(result, aiter)

    async def read(self, stream: OpenedStream) -> Chunk | None:
        raw = await anext(stream.parts, None)
        chunk: Chunk | None = stream.rest() if raw is None else stream.reader.read(raw)
        return chunk

    async def close(self, stream: OpenedStream) -> None:
        try:
            await _leave(stream.parts)
            if stream.http.stream is stream.source:
                await stream.http.aclose()
                if isinstance(stream.result, openai.AsyncStream):
                    await stream.result.close()
            else:
                await stream.source.aclose()
        except Exception as error:
            stream.failure = error
            raise

    def emit(self, record: Outcome) -> None:
        self._exchange.emit(record)


async def _leave(parts: Any) -> None:
    """End an iteration that nobody is waiting in, which is left to the garbage collector else.

    What it raises is nothing to its caller: the response is closed next, and says what it has to.
    """
    if hasattr(parts, "aclose") and not getattr(parts, "ag_running", False):
        with suppress(Exception):
            await parts.aclose()


def _wake_reader(http: Any) -> bool:
    """Make another thread's read of this response return; whether that could be done.

    The kernel keeps a socket open under a thread that is reading it, so closing alone would reach
    the server only once that read ends. An HTTP/2 connection is shared and has to be left alone.
    """
    network = http.extensions.get("network_stream")
    if network is None or http.http_version == "HTTP/2":
        return False
    connection = network.get_extra_info("socket")
    if connection is None:
        return False
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    return True

"""The server of the storm: one asyncio process that does what scenarios say and keeps count.

``python -m tests.storm.upstream SEED`` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import urllib.request
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from demur.testing import chat_shape, responses_shape
from demur.testing.reply import Exchange

from .scenario import MODELS, Act, reply_of, scenario

STALL_SECONDS = 30.0
"""A caller that is still there after this has hung."""

Writer = asyncio.StreamWriter


class ClientLeft(Exception):  # noqa: N818
    """The caller closed its connection before the end."""


class Server:
    """``calls`` counts the calls for a request and model, ``active`` the answers under way."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls: dict[str, int] = {}
        self._active: dict[int, str] = {}
        self._connections = 0
        self._stuck: list[str] = []
        self._turn = 0

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._connections += 1
        try:
            with suppress(ClientLeft, ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: Writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        path = head.split(" ", 2)[1]
        length = next((x for x in head.split("\r\n") if x.startswith("content-length:")), ":0")
        body = await reader.readexactly(int(length.partition(":")[2]))
        if path == "/report":
            _send(writer, 200, json.dumps(self._report()).encode())
            return True
        self._turn += 1
        turn = self._turn
        request = json.loads(body)
        said = request.get("messages") or [{"content": request.get("input")}]
        number, model = int(said[0]["content"]), request["model"].partition(".")[0]
        act = scenario(self._seed, number).acts[MODELS.index(model)]
        call = f"{number} {model}"
        self._calls[call] = self._calls.get(call, 0) + 1
        self._active[turn] = f"{call} {act.says} {act.fault}"
        try:
            shape = chat_shape if path.endswith("/chat/completions") else responses_shape
            asked = Exchange(reply_of(act, model, number), request, abs(number))
            return await Answer(act, reader, writer, number).give(shape, asked)
        except TimeoutError:
            self._stuck.append(self._active[turn])
            return False
        finally:
            del self._active[turn]

    def _report(self) -> dict[str, Any]:
        report = {
            "calls": self._calls, "active": list(self._active.values()),
            "connections": self._connections, "stuck": self._stuck,
        }  # fmt: skip
        if not self._active:
            self._calls, self._stuck = {}, []
        return report


class Answer:
    """One act, played."""

    def __init__(self, act: Act, reader: asyncio.StreamReader, writer: Writer, number: int) -> None:
        self._act = act
        self._reader = reader
        self._writer = writer
        self._random = Random(number)
        self._zip = zlib.compressobj(wbits=31) if act.zipped else None

    async def give(self, shape: Any, asked: Exchange) -> bool:
        """Answer; whether the connection can be used again."""
        fault = self._act.fault
        if fault == "hangup":
            return False
        if fault == "slow":
            await self._wait(self._random.uniform(0.0, 0.2))
        if fault.isdigit():
            _send(self._writer, int(fault), json.dumps(shape_error(int(fault))).encode())
            return True
        if asked.request.get("stream"):
            return await self._stream(list(shape.events(asked)))
        return await self._whole(json.dumps(shape.body(asked), ensure_ascii=False).encode())

    async def _whole(self, body: bytes) -> bool:
        fault, half = self._act.fault, len(body) // 2
        if fault == "malformed":
            _send(self._writer, 200, b"{not json")
            return True
        if fault == "stall":
            self._writer.write(_head(200, "application/json", f"content-length: {len(body)}"))
            self._writer.write(body[:half] if self._act.late else b"")
            await self._stall()
        if fault in ("cut", "half", "reset"):
            self._writer.write(_head(200, "application/json", f"content-length: {len(body)}"))
            self._writer.write(body[:half] if self._act.late else b"")
            return await self._break()
        if self._zip is not None:
            body = self._zip.compress(body) + self._zip.flush()
        _send(self._writer, 200, body, "content-encoding: gzip" if self._zip else "")
        return True

    async def _stream(self, events: list[bytes]) -> bool:
        act = self._act
        encoding = "transfer-encoding: chunked" + (
            "\r\ncontent-encoding: gzip" if self._zip else ""
        )
        self._writer.write(_head(200, "text/event-stream", encoding))
        upto = fault_at(act, len(events))
        body = b"".join(events[:upto])
        if act.fault == "half":
            body += events[upto][: len(events[upto]) // 2]
        elif act.fault == "malformed":
            body += b"data: {not json\n\n" + b"".join(events[upto:])
        elif act.fault == "error":
            body += b"data: " + json.dumps(shape_error(500)).encode() + b"\n\n"
        await self._pieces(body)
        if act.fault in ("cut", "reset"):
            return await self._break()
        if act.fault == "stall":
            await self._stall()
        if self._zip is not None:
            self._write(self._zip.flush())
        self._writer.write(b"0\r\n\r\n")
        return True

    async def _pieces(self, body: bytes) -> None:
        """The body cut anywhere, in the middle of a character as well."""
        drips = self._act.fault == "drip"
        count = 20 if drips else self._random.randrange(1, 6)
        cuts = sorted(self._random.randrange(len(body) + 1) for _ in range(count))
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            piece = body[start:end]
            if self._zip is not None and piece:
                piece = self._zip.compress(piece) + self._zip.flush(zlib.Z_SYNC_FLUSH)
            self._write(piece)
            await self._writer.drain()
            await (self._wait(0.01) if drips else asyncio.sleep(0))

    def _write(self, piece: bytes) -> None:
        if piece:
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def _wait(self, seconds: float) -> None:
        """Sleep, unless the caller leaves."""
        with suppress(asyncio.TimeoutError):
            if not await asyncio.wait_for(self._reader.read(1), seconds):
                raise ClientLeft

    async def _stall(self) -> None:
        await self._writer.drain()
        await self._wait(STALL_SECONDS)
        raise TimeoutError

    async def _break(self) -> bool:
        await self._writer.drain()
        if self._act.fault == "reset":
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        return False


def fault_at(act: Act, events: int) -> int:
    """How many of the events come before the fault."""
    if act.fault not in ("cut", "reset", "half", "malformed", "error", "no_done", "stall"):
        return events
    return events // 2 if act.late else 1


def shape_error(status: int) -> dict[str, Any]:
    return chat_shape.error(status, "the storm")


def _head(status: int, kind: str, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"content-type: {kind}", *filter(None, more)]
    return "\r\n".join([*lines, "", ""]).encode()


def _send(writer: Writer, status: int, body: bytes, *more: str) -> None:
    writer.write(_head(status, "application/json", f"content-length: {len(body)}", *more) + body)


class Upstream:
    """The server in a process of its own."""

    def __init__(self, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.storm.upstream", str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._process.stdout is not None
        self.origin = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def report(self) -> dict[str, Any]:
        """What the server has seen since it was last asked while nothing was under way."""
        with urllib.request.urlopen(f"{self.origin}/report", timeout=30) as answer:
            report: dict[str, Any] = json.load(answer)
        return report

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


async def _main(seed: int) -> None:
    server = await asyncio.start_server(Server(seed).serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # what is still connected then is of no interest


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

"""A real HTTP server on the loopback interface that speaks like a model provider.

It answers ``/v1/chat/completions``, ``/v1/responses``, ``/v1/messages`` and ``/v1/models`` as its
script says, and records what it was asked and whether a client left before the end::

    script = {"primary": Reply("I'm sorry, I can't help."), "second": Reply("Sure: ...")}
    with Upstream(script) as upstream:
        client = OpenAI(base_url=upstream.base_url, api_key="any")
"""

from __future__ import annotations

import json
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from typing_extensions import Self

from . import chat_shape, messages_shape, responses_shape
from .reply import Exchange, Reply

Script = Reply | Sequence[Reply] | Callable[[Mapping[str, Any]], Reply]
"""A reply; replies in turn, the last one for good; or a function of the request's JSON."""

_ENDPOINTS = ("/chat/completions", "/responses", "/messages")


@dataclass(slots=True, eq=False)
class Recorded:
    """One request as it arrived, and how its answer went.

    ``headers`` are lower-cased. ``chunks_sent`` counts the events of a stream, the closing one
    included. ``cut`` is ``True`` once the client went away before the answer's end; ``finished``
    is set when the server is done with it either way.
    """

    path: str
    model: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    cut: bool = False
    chunks_sent: int = 0
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


class Upstream:
    """The server, running from construction until ``close`` or the end of its ``with`` block.

    ``base_url`` ends in ``/v1``; ``origin`` is the same without it, for clients that add their own
    path (Anthropic, Azure). A model that is not in ``script`` is answered with 404, and one whose
    script raises with 500 and the exception's type.
    """

    def __init__(self, script: Mapping[str, Script], *, port: int = 0) -> None:
        self.script = dict(script)
        self.requests: list[Recorded] = []
        self._changed = threading.Condition()
        self._server = _Server(self, port)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.base_url = f"{self.origin}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="demur-upstream", daemon=True
        )
        self._thread.start()

    def calls(self, model: str) -> list[Recorded]:
        """The requests for ``model``, in the order they came."""
        with self._changed:
            return [record for record in self.requests if record.model == model]

    def wait_for_cut(self, model: str, timeout: float = 5.0) -> bool:
        """Whether a client left an answer of ``model`` unfinished, within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: any(r.cut for r in self.requests if r.model == model), timeout
            )

    def close(self) -> None:
        """Stop serving and drop the connections that are still open."""
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, record: Recorded) -> tuple[int, Reply]:
        """Record a request; its number from 1, and the reply the script has for it."""
        with self._changed:
            self.requests.append(record)
            number = len(self.requests)
            turn = sum(r.model == record.model for r in self.requests) - 1
        try:
            return number, self._reply(record, turn)
        except Exception as error:  # noqa: BLE001 - the client is told; else it would wait for ever
            return number, Reply(f"The script raised {type(error).__name__}", status=500)

    def _reply(self, record: Recorded, turn: int) -> Reply:
        script = self.script.get(record.model)
        if script is None:
            return Reply(f"The model {record.model!r} does not exist", status=404)
        if isinstance(script, Reply):
            return script
        if callable(script):
            return script(record.body)
        return script[min(turn, len(script) - 1)]

    def _end(self, record: Recorded, *, cut: bool) -> None:
        with self._changed:
            record.cut = cut
            record.finished.set()
            self._changed.notify_all()


class _ClientLeftError(Exception):
    """The client closed its connection before the answer's end."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: Upstream, port: int) -> None:
        self.upstream = upstream
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the peer was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "demur-upstream"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if self._path() != "/models":
            self._send_json(404, chat_shape.error(404, f"Nothing at {self.path}"))
            return
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "demur"}
            for name in self.server.upstream.script
        ]
        self._send_json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self._path()
        if path is None or path == "/models":
            self._send_json(404, chat_shape.error(404, f"Nothing at {self.path}"))
            return
        try:
            request = json.loads(raw)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._send_json(400, chat_shape.error(400, "The body must be a JSON object"))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        record = Recorded(self.path, str(request.get("model")), request, headers)
        number, reply = self.server.upstream._begin(record)
        cut = False
        try:
            self._answer(path, record, Exchange(reply, request, number))
        except (_ClientLeftError, ConnectionError):
            cut = self.close_connection = True
        finally:
            self.server.upstream._end(record, cut=cut)

    def _path(self) -> str | None:
        """The endpoint, wherever it is mounted: ``/v1`` or an Azure deployment."""
        path = self.path.partition("?")[0]
        return next((end for end in (*_ENDPOINTS, "/models") if path.endswith(end)), None)

    def _answer(self, path: str, record: Recorded, exchange: Exchange) -> None:
        reply, number = exchange.reply, exchange.number
        self._wait(reply.first_delay)
        shape = {
            "/chat/completions": chat_shape,
            "/responses": responses_shape,
            "/messages": messages_shape,
        }[path]
        if isinstance(reply.body, tuple):
            self._stream(record, exchange, reply.body)
        elif reply.body is not None:
            self._send(reply, reply.body, number)
        elif reply.status != 200:
            error = messages_shape.error if path == "/messages" else chat_shape.error
            message = reply.texts[0] or f"Scripted error {reply.status}"
            self._send(reply, json.dumps(error(reply.status, message)).encode(), number)
        elif record.stream:
            self._stream(record, exchange, shape.events(exchange))
        else:
            body = json.dumps(shape.body(exchange), ensure_ascii=False).encode()
            self._send(reply, body, number)

    def _send_json(self, status: int, payload: Mapping[str, Any]) -> None:
        self._send(Reply(status=status), json.dumps(payload).encode())

    def _send(self, reply: Reply, body: bytes, number: int = 0) -> None:
        framing = {"content-type": "application/json", "content-length": str(len(body))}
        self._head(reply, number, framing)
        if reply.reset_after is None:
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def _stream(self, record: Recorded, exchange: Exchange, events: Iterable[bytes]) -> None:
        reply = exchange.reply
        framing = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        self._head(reply, exchange.number, framing)
        for event in events:
            if record.chunks_sent == reply.reset_after:
                self.close_connection = True
                return
            self._wait(reply.delay if record.chunks_sent else 0.0)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            record.chunks_sent += 1
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, reply: Reply, number: int, framing: Mapping[str, str]) -> None:
        self.send_response(reply.status)
        given = {name.lower(): value for name, value in reply.headers.items()}
        for name, value in {**framing, "x-request-id": f"req_{number}", **given}.items():
            self.send_header(name, value)
        self.end_headers()

    def _wait(self, seconds: float) -> None:
        """Sleep, watching the connection: an orderly close shows as the end of what is to read."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            if select.select([self.connection], [], [], left)[0]:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise _ClientLeftError
                time.sleep(min(left, 0.01))  # a next request is already waiting
            if time.monotonic() >= end:
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the records are the log."""

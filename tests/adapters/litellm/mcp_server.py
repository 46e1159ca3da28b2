"""A server of the Model Context Protocol on the loopback interface, with one tool."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self

TOOL = "look_up"


class McpServer:
    """Running from construction to the end of its ``with`` block."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/mcp"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in asked:
            self._send(202, b"")
            return
        found = _answer(asked)
        told = {"jsonrpc": "2.0", "id": asked["id"], **found}
        self._send(200, json.dumps(told).encode())

    def do_GET(self) -> None:
        self._send(405, b"")

    def do_DELETE(self) -> None:
        self._send(405, b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            result: dict[str, Any] = {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "maps", "version": "1"},
            }
        case "tools/list":
            result = {"tools": [{"name": TOOL, "inputSchema": schema}]}
        case "tools/call":
            result = {"content": [{"type": "text", "text": "On the Tagus."}], "isError": False}
        case method:
            return {"error": {"code": -32601, "message": f"no method {method}"}}
    return {"result": result}

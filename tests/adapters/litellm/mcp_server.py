"""A server of the Model Context Protocol on the loopback interface, with one tool."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import Answering, Loopback

TOOL = "look_up"


class McpServer(Loopback):
    def __init__(self) -> None:
        super().__init__(_Handler)
        self.url = f"{self.origin}/mcp"


class _Handler(Answering, BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.read())
        if "id" not in asked:
            self.send(202, b"")
            return
        found = _answer(asked)
        told = {"jsonrpc": "2.0", "id": asked["id"], **found}
        self.send(200, json.dumps(told).encode())

    def do_GET(self) -> None:
        self.send(405, b"")

    def do_DELETE(self) -> None:
        self.send(405, b"")


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

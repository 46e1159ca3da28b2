"""A server on the loopback interface that speaks like Gemini, about models that say nothing."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self

# By model: what its response consists of.
RESPONSES: dict[str, dict[str, Any]] = {
    "g-blocked": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    "g-spii": {"candidates": [{"index": 0, "finishReason": "SPII"}]},
    "g-reciting": {"candidates": [{"index": 0, "finishReason": "RECITATION"}]},
}


class Gemini:
    """Running from construction until the end of its ``with`` block."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        model, _, method = self.path.rpartition("/")[2].partition(":")
        usage = {"promptTokenCount": 7, "totalTokenCount": 7}
        response = {**RESPONSES[model], "usageMetadata": usage, "modelVersion": model}
        body, kind = json.dumps(response).encode(), "application/json"
        if method.startswith("stream"):
            body, kind = b"data: %b\r\n\r\n" % body, "text/event-stream"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

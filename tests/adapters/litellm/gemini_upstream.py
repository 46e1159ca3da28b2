"""A server on the loopback interface that speaks like Gemini, about models that say nothing."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import Answering, Loopback

# By model: what its response consists of.
RESPONSES: dict[str, dict[str, Any]] = {
    "g-blocked": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    "g-spii": {"candidates": [{"index": 0, "finishReason": "SPII"}]},
    "g-reciting": {"candidates": [{"index": 0, "finishReason": "RECITATION"}]},
}


class Gemini(Loopback):
    def __init__(self) -> None:
        super().__init__(_Handler)


class _Handler(Answering, BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.read()
        model, _, method = self.path.rpartition("/")[2].partition(":")
        usage = {"promptTokenCount": 7, "totalTokenCount": 7}
        response = {**RESPONSES[model], "usageMetadata": usage, "modelVersion": model}
        body, kind = json.dumps(response).encode(), "application/json"
        if method.startswith("stream"):
            body, kind = b"data: %b\r\n\r\n" % body, "text/event-stream"
        self.send(200, body, kind)

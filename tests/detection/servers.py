"""Loopback servers that the remote stage asks, and the stage that asks them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from demur.detection.building import build_detector
from demur.detection.cascade import Cascade
from demur.errors import DetectorError
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence

REFUSAL = "I'm sorry, but I can't do that."


def probability(text: str) -> float:
    return 0.875 if "can't" in text else 0.125


def tei(body: Any) -> Any:
    assert body["truncate"] is True
    found = [probability(text) for (text,) in body["inputs"]]
    return [
        [{"score": p, "label": "REJECTION"}, {"score": 1 - p, "label": "NORMAL"}] for p in found
    ]


def detector(
    url: str, *, seconds: float = 5.0, stages: Any = ("remote",), **remote: Any
) -> Cascade:
    values = {"protocol": "tei", "url": url, **remote}
    settings = {"stages": stages, "seconds": seconds, "remote": values}
    return build_detector(DetectorSettings.model_validate(settings))


def label(found: Cascade, text: str) -> str:
    """The label, or what was wrong."""
    try:
        return found.classify(Evidence(text)).label
    except DetectorError as error:
        return str(error)


class Server:
    """A loopback HTTP server; ``act`` answers a parsed body, or raises to close the connection."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        self.act = act
        self.status = 200
        self.requests: list[tuple[str, Any, str | None]] = []
        self.connections: set[Any] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.connections.add(self.client_address)
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((self.path, body, self.headers.get("authorization")))
                answer = outer.act(body)
                if answer is None:
                    self.close_connection = True
                    return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

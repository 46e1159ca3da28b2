"""Receives what a process exports over OTLP/HTTP, on loopback."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from typing_extensions import Self


@dataclass(frozen=True)
class Span:
    name: str
    trace: bytes
    id: bytes
    parent: bytes  # empty at the root of a trace
    start: int  # in nanoseconds, as the end
    end: int
    events: tuple[tuple[str, dict[str, str]], ...]  # names and their attributes that are strings


class OtlpCollector:
    """Takes spans from its construction to the end of its ``with`` block."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What has a LiteLLM proxy send its spans here, soon after they end."""
        return {
            "OTEL_EXPORTER": "otlp_http",
            "OTEL_ENDPOINT": self.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, enough: Callable[[list[Span]], bool], seconds: float = 30) -> list[Span]:
        """The spans so far, once they are ``enough`` or the time is over."""
        end = time.monotonic() + seconds
        with self._arrived:
            while not enough(self._spans) and time.monotonic() < end:
                self._arrived.wait(end - time.monotonic())
            return list(self._spans)

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _span(span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self._spans += found
            self._arrived.notify_all()

    def _handler(collector) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector._take(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *told: object) -> None:
                """Say nothing."""

        return Handler


def _span(span: Any) -> Span:
    events = tuple(
        (event.name, {pair.key: pair.value.string_value for pair in event.attributes})
        for event in span.events
    )
    ids = span.trace_id, span.span_id, span.parent_span_id
    return Span(span.name, *ids, span.start_time_unix_nano, span.end_time_unix_nano, events)

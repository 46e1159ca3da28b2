"""Batches: the proxy shows their requests to its guardrails when their file is uploaded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import pytest
from proxy_scene import rule
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy
from test_litellm_operators import CHAT, Answer

from demur.testing import Upstream

ASK = [{"role": "user", "content": "What is the capital of Portugal?"}]
RECORDS = (
    (CHAT, {"model": "primary", "messages": ASK}),
    (CHAT, {"model": "primary", "messages": ASK, "stream": True}),
    ("/v1/messages", {"model": "primary", "messages": ASK, "max_tokens": 9}),
    ("/v1/responses", {"model": "primary", "input": "Which capital?"}),
    ("/v1/embeddings", {"model": "primary", "input": "Lisbon"}),
)
FORM = "--f\r\nContent-Disposition: form-data; name="


class Files:
    """A provider's endpoint for files, which keeps what it is sent."""

    def __init__(self) -> None:
        files = self
        self.bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                files.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                facts: dict[str, Any] = dict.fromkeys(("bytes", "created_at"), 1)
                facts |= {"id": "file-1", "object": "file", "filename": "batch.jsonl"}
                body = json.dumps({**facts, "purpose": "batch", "status": "processed"}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    found = Files()
    yield found
    found.close()


@pytest.fixture(scope="module")
def batching(
    files: Files, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy that uploads files to a provider, and whose policy remembers refusals."""
    skip_without_proxy()
    breaker = {"rate": 0.5, "window": 60, "least": 1, "pause": 60}
    retried = rule("primary", "second", breaker=breaker)
    provider = {"custom_llm_provider": "openai", "api_base": files.base_url, "api_key": "sk-files"}
    with Proxy(
        tmp_path_factory.mktemp("batching"),
        base_url=upstream.base_url,
        models={"primary": "m-refusing", "second": "m-second"},
        policy={"version": 1, "rules": [retried]},
        parts={"files_settings": [provider]},
    ) as proxy:
        yield proxy.wait_until_up()


def test_a_file_is_uploaded_as_it_is(upstream: Upstream, batching: Proxy, files: Files) -> None:
    """Its requests are no calls of the proxy's: nobody falls back, and so nothing is put into
    them, which the provider would not know."""
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": url, "body": body})
        for n, (url, body) in enumerate(RECORDS)
    ]
    for called in (["m-refusing", "m-second"], ["m-second"]):
        answer, sent = upload(batching, files, "\n".join(lines))
        assert "litellm_batch_guardrail" not in answer
        assert [line for line in lines if line not in sent] == []
        # Refused: from now on requests start at the fallback.
        assert Answer(upstream, batching, CHAT, RECORDS[0][1]).called == called


def upload(proxy: Proxy, files: Files, text: str) -> tuple[dict[str, Any], str]:
    """What the proxy answers, and what the provider gets."""
    fields = "".join(
        f'{FORM}"{name}"\r\n\r\n{value}\r\n'
        for name, value in (("purpose", "batch"), ("custom_llm_provider", "openai"))
    )
    file = f'{FORM}"file"; filename="batch.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    form = f"{fields}{file}{text}\r\n--f--\r\n".encode()
    headers = {
        "authorization": f"Bearer {MASTER_KEY}",
        "content-type": "multipart/form-data; boundary=f",
    }
    with urlopen(Request(f"{proxy.url}/v1/files", form, headers), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found, files.bodies[-1].decode()

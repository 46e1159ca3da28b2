"""The proxy configuration that comes with demur, started as its own comment says."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demur.testing import Reply, Upstream

ROOT = Path(__file__).parents[2]
LITELLM = Path(sys.executable).parent / "litellm"
KEY = "sk-master"
SCRIPT = {
    "gpt-4.1-mini": Reply("I'm sorry, but I can't help with that request."),
    "gpt-4.1": Reply("Sure. Lisbon is the capital of Portugal."),
}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where the proxy listens, once it does."""
    if importlib.util.find_spec("apscheduler") is None or not LITELLM.exists():
        pytest.skip("litellm's proxy extra is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with Upstream(SCRIPT) as upstream, (tmp_path / "log").open("wb") as log:
        environment = {
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": KEY,
            "OPENAI_API_KEY": "sk-upstream",
            "OPENAI_BASE_URL": upstream.base_url,
        }
        address = ["--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [str(LITELLM), "--config", "configs/proxy.yaml", *address],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(port, process, tmp_path / "log")
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text(errors="replace")[-4000:])


def ask(port: int, model: str) -> tuple[dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": model, "messages": [{"role": "user", "content": "The capital of Portugal?"}]}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return found, json.loads(response.read())
    finally:
        connection.close()


def test_the_shipped_proxy_answers_a_refusal_with_the_fallback(port: int) -> None:
    """The configuration boots as it is, finds its policy, and a refusal is replaced and tagged."""
    headers, answer = ask(port, "primary")
    assert answer["choices"][0]["message"]["content"] == "Sure. Lisbon is the capital of Portugal."
    assert headers["x-demur-rule"] == "retry"
    assert headers["x-demur-served-model"] == "second"
    headers, answer = ask(port, "second")
    assert headers["x-demur-rule"] == "everything-else"
    assert headers["x-demur-label"] == "normal"

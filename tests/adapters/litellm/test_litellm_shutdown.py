"""What a proxy does before it ends."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from proxy_scene import GROUPS, POLICY, SCRIPT
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Upstream

fcntl = pytest.importorskip("fcntl")


def test_what_waits_is_written_before_a_signal_ends_the_proxy(tmp_path: Path) -> None:
    """The server hands SIGTERM on to the system once it has shut down: nothing runs after that."""
    skip_without_proxy()
    path = tmp_path / "audit.jsonl"
    policy: dict[str, Any] = {**POLICY, "audit": {"path": str(path)}}
    with (
        Upstream(SCRIPT) as upstream,
        Proxy(tmp_path, base_url=upstream.base_url, models=GROUPS, policy=policy) as proxy,
        path.open("a") as file,
    ):
        proxy.wait_until_up()
        fcntl.flock(file, fcntl.LOCK_EX)
        for _ in range(4):
            ask(proxy)
        threading.Timer(2.0, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        proxy.close()
        assert len(path.read_text().splitlines()) == 4


def ask(proxy: Proxy) -> None:
    body = {"model": "helpful", "messages": [{"role": "user", "content": "How?"}]}
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    request = Request(f"{proxy.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urlopen(request, timeout=60) as answer:
        assert answer.status == 200

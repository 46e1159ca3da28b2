"""A proxy whose policy is in shadow mode sends the very bytes that one without demur sends."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import CORPUS, Shape
from proxy_stage import MASTER_KEY, Proxy
from side_by_side import asked, side_by_side

RULE = {
    "name": "r",
    "actions": ["log", "retry"],
    "retry": {"fallbacks": ["plain"], "breaker": {"least": 1}, "sticky": {}},
}
POLICY = {
    "version": 1,
    "mode": "shadow",
    "rules": [RULE],
    "budgets": [{"calls": 1}],
    "audit": {"path": "audit.jsonl"},
}
# What no two answers of one proxy have in common.
OWN = re.compile(
    rb"(chatcmpl-|resp_|msg_|rs_|fc_)[\w=+/.-]+"
    rb"|(?<=\"created\":)\d+|(?<=\"created_at\":)[\d.]+|(?<=\"completed_at\":)[\d.]+"
    rb"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
OWN_HEADERS = re.compile(r"(.*-)?(date|request-id|call-id)|x-litellm-.*duration.*")


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    """The same proxy with demur in shadow mode and without it."""
    folder: Path = tmp_path_factory.mktemp("shadow")
    with side_by_side(folder, CORPUS, POLICY) as both:
        yield both


def sent(proxy: Proxy, shape: Shape) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers in their order, and body, without what is every answer's own."""
    path, body = asked(shape)
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        raw = answer.read()
        found = [(k.lower(), v) for k, v in answer.getheaders()]
    finally:
        connection.close()
    kept = [(name, value) for name, value in found if not OWN_HEADERS.fullmatch(name)]
    return answer.status, [(k, _without(v.encode()).decode()) for k, v in kept], _without(raw)


def _without(text: bytes) -> bytes:
    return OWN.sub(b"-", text)


@pytest.mark.parametrize("shape", CORPUS, ids=lambda shape: shape.name)
def test_shadow_mode_sends_the_same_bytes(proxies: tuple[Proxy, Proxy], shape: Shape) -> None:
    """Refused or not, whole or streamed: body and headers are those of a proxy without demur."""
    shadow, without = (sent(proxy, shape) for proxy in proxies)
    assert shadow[0] == without[0]
    assert shadow[2] == without[2]
    assert sorted(shadow[1]) == sorted(without[1])


def test_it_was_in_use(proxies: tuple[Proxy, Proxy]) -> None:
    """All the while demur recorded what it would have done."""
    shape = next(shape for shape in CORPUS if shape.refused and not shape.stream)
    sent(proxies[0], shape)
    log, end = proxies[0].folder / "audit.jsonl", time.monotonic() + 20
    while True:
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        # The last one's row: it is the model's second refusal, so the breaker had a say.
        if any(row.get("started") for row in rows) or time.monotonic() > end:
            break
        time.sleep(0.1)
    assert {row["shadow"] for row in rows} == {True}
    assert "fell_back" in {row["would"] for row in rows}
    assert "breaker" in {row.get("started") for row in rows}

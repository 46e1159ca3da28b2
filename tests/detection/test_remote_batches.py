"""What goes into one request to a server, and what one bad text of it costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import REFUSAL, detector, label, tei


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("windows", ["ends", "all"])
def test_no_request_holds_more_texts_than_a_batch(serve: Any, windows: str) -> None:
    """A server that takes 32 texts at once, as Text Embeddings Inference by default, judges long
    ones too, though each is sent in windows."""

    def act(body: Any) -> Any:
        server.status = 200 if len(body["inputs"]) <= 32 else 413
        time.sleep(0.05)
        return tei(body)

    server = serve(act)
    found = detector(server.url, windows=windows, connections=1, seconds=20.0)
    assert label(found, "word " * 2000) == "normal"
    texts = [f"{number} " + "word " * 800 for number in range(40)]
    with ThreadPoolExecutor(40) as callers:
        assert set(callers.map(lambda text: label(found, text), texts)) == {"normal"}
    assert label(found, "word " * 30_000 + REFUSAL) == "refusal"


@pytest.mark.parametrize("status", [400, 413, 422, 424, 500])
def test_a_text_that_the_server_cannot_take_costs_no_other_its_verdict(
    serve: Any, status: int
) -> None:
    """Those that were sent with it are asked again without it."""
    waits = threading.Event()

    def act(body: Any) -> Any:
        waits.wait(10)
        server.status = status if any("poison" in text for (text,) in body["inputs"]) else 200
        return tei(body)

    server = serve(act)
    found = detector(server.url, connections=1, seconds=20.0)
    texts = [f"{REFUSAL} {number}" for number in range(20)]
    with ThreadPoolExecutor(22) as callers:
        first = callers.submit(label, found, "first")
        until(lambda: len(server.requests) == 1)
        asked = [callers.submit(label, found, text) for text in (*texts[:9], "poison", *texts[9:])]
        until(lambda: found.stages[0]._detector.batcher.waiting == 22)  # type: ignore[attr-defined]
        waits.set()
        got = [answer.result() for answer in asked]
    assert first.result() == "normal"
    assert f"status {status}" in got.pop(9)
    assert got == ["refusal"] * 20
    assert len(server.requests) < 20


def test_a_server_that_fails_over_every_text_is_not_asked_about_each(serve: Any) -> None:
    """It is broken, and many small requests do not mend it."""
    broken = threading.Event()

    def act(body: Any) -> Any:
        server.status = 500 if broken.is_set() else 200
        time.sleep(0.1)
        return tei(body)

    server = serve(act)
    found = detector(server.url, connections=1, seconds=20.0)
    assert label(found, "first") == "normal"
    broken.set()
    before = len(server.requests)
    with ThreadPoolExecutor(32) as callers:
        got = list(callers.map(lambda number: label(found, f"text {number}"), range(32)))
    assert all("status 500" in one for one in got)
    assert len(server.requests) - before < 32

"""The loopback upstream under scripts that raise, and many clients at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from test_upstream import CHAT, MESSAGES, post

from demur.testing import Reply, Upstream


def test_a_script_that_raises_is_answered() -> None:
    """With the exception's name and a status; the request is finished, and nobody hangs."""

    def broken(body: Any) -> Reply:
        raise KeyError(body["model"])

    with Upstream({"m": broken, "none": ()}) as upstream:
        answers = [post(upstream, CHAT), post(upstream, MESSAGES, model="none")]
        assert all(record.finished.wait(5) for record in upstream.requests)
    assert [status for status, _, _ in answers] == [500, 500]
    told = [json.loads(raw)["error"]["message"] for _, _, raw in answers]
    assert told == ["The script raised KeyError", "The script raised IndexError"]


def test_answers_at_once_have_ids_of_their_own() -> None:
    """A response is numbered as its request, however many came before it was written."""
    with Upstream({"m": Reply("Hi", first_delay=0.3)}) as upstream, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: post(upstream, CHAT), range(3)))
    ids = {(headers["x-request-id"], json.loads(raw)["id"]) for _, headers, raw in answers}
    assert len(ids) == 3
    assert {number for number, _ in ids} == {"req_1", "req_2", "req_3"}

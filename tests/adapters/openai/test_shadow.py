"""Shadow mode: what would have happened is recorded, and nothing at all changes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, Caller, retrying

import demur
from demur.testing import Reply, Upstream

WHOLE = retrying()
POLICIES = {
    "policy": {**WHOLE, "mode": "shadow"},
    "rule": {**WHOLE, "rules": [{**WHOLE["rules"][0], "mode": "shadow"}]},
    "error": {
        "version": 1,
        "mode": "shadow",
        "rules": [{"name": "r", "actions": ["log", "tag", "error"]}],
    },
}
SAME_ID = {"x-request-id": "req"}
SCRIPT = {
    "primary": Reply(REFUSAL, headers=SAME_ID),
    "helpful": Reply(ANSWER, headers=SAME_ID),
    "filtered": Reply("", finish_reason="content_filter", headers=SAME_ID),
    "broken": Reply("no", status=500),
    "cut": Reply(REFUSAL, reset_after=3, headers=SAME_ID),
    "second": Reply(ANSWER),
}


def told(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "date"}


def whole(caller: Caller, client: Any, model: str) -> Any:
    """All a caller can see of a whole response, or of the error it is."""
    create = client.chat.completions.with_raw_response.create
    try:
        raw = caller.wait(create(model=model, messages=MESSAGES))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error), str(error)
    http = raw.http_response
    return http.status_code, told(http.headers), without_ids(http.content), raw.parse().model


def streamed(caller: Caller, client: Any, model: str) -> Any:
    """The bytes of a stream, chunk by chunk, and how it ended."""
    parts: list[bytes] = []
    try:
        stream = caller.create(client, model, stream=True)
        http = stream.response
        if caller.kind == "sync":
            parts.extend(http.iter_raw())
        else:
            caller.wait(_into(parts, http.aiter_raw()))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return [without_ids(part) for part in parts], type(error)
    return [without_ids(part) for part in parts], told(http.headers)


async def _into(parts: list[bytes], stream: Any) -> None:
    async for part in stream:
        parts.append(part)  # noqa: PERF401 - what came before an error counts


def without_ids(body: bytes) -> bytes:
    """The upstream numbers its answers and tells the time."""
    return re.sub(rb'"(id|created)": ?("[^"]*"|\d+)', rb'"\1":0', body)


@pytest.mark.parametrize("model", ["primary", "helpful", "filtered", "broken", "cut"])
@pytest.mark.parametrize("see", [whole, streamed])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_byte_for_byte(kind: str, policy: str, see: Any, model: str) -> None:
    """Status, headers, bytes, chunks and errors are those of a client without demur; so are the
    requests the upstream gets."""
    caller = Caller(kind)
    with Upstream(SCRIPT) as upstream:
        plain = see(caller, caller.client(upstream), model)
        shadowed = see(caller, caller.wrap(upstream, policy=POLICIES[policy]), model)
        caller.close()
        first, second = upstream.calls(model)
        assert not upstream.calls("second")
    assert shadowed == plain
    assert first.body == second.body
    assert told(first.headers) == told(second.headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("policy", "would"), [("rule", "fell_back"), ("error", "exhausted")])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_would_have_happened(kind: str, policy: str, would: str, stream: bool) -> None:
    """The record says what an enforcing policy had done, and that it was not done."""
    caller = Caller(kind)
    with Upstream(SCRIPT) as upstream:
        response = caller.create(caller.wrap(upstream, policy=POLICIES[policy]), stream=stream)
        if stream:
            caller.items(response)
        outcome = demur.outcome_of(response)
        caller.close()
    assert outcome is not None
    assert (outcome.ending, outcome.would, outcome.shadow) == ("accepted", would, True)
    assert outcome.verdict is not None
    assert outcome.verdict.label == "refusal"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_nothing_is_held(kind: str) -> None:
    """In shadow mode the first chunk arrives as soon as it was sent."""
    caller = Caller(kind)
    script = {"primary": Reply(REFUSAL, chunk_size=20, delay=0.2)}
    with Upstream(script) as upstream:
        stream = caller.create(caller.wrap(upstream, policy=POLICIES["policy"]), stream=True)
        start = time.perf_counter()
        caller.items(stream, 2)
        first = time.perf_counter() - start
        caller.items(stream)
        assert first < (time.perf_counter() - start) / 2
        caller.close()

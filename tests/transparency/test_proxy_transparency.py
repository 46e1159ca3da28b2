"""A LiteLLM proxy with the guardrail answers what one without it answers, event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from corpus import CORPUS, Shape
from proxy_stage import MASTER_KEY, Proxy
from side_by_side import asked, side_by_side

POLICY = {
    "version": 1,
    "rules": [{"name": "r", "actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["plain"]}}],
}
VARYING = frozenset({"id", "created", "created_at", "completed_at", "item_id", "response_id"})
SHAPES = tuple(shape for shape in CORPUS if not shape.refused)


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    folder: Path = tmp_path_factory.mktemp("transparency")
    with side_by_side(folder, SHAPES, POLICY, delay=0.002) as both:
        yield both


def ask(proxy: Proxy, shape: Shape) -> Any:
    """Status and content of an answer, without what changes from one request to the next."""
    path, body = asked(shape)
    request = Request(
        f"{proxy.url}{path}",
        body,
        {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"},
    )
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["content-type"], parsed(answer.read())
    except HTTPError as error:
        with error:
            return error.code, parsed(error.read())


def parsed(body: bytes) -> list[Any]:
    """A body as JSON, or each line of a stream as what it holds."""
    lines = body.decode().splitlines()
    return [read(line.removeprefix("data: ")) for line in lines if line]


def read(text: str) -> Any:
    try:
        return steady(json.loads(text))
    except ValueError:
        return text


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "..." if k in VARYING else steady(v) for k, v in value.items()}
    return [steady(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_guardrail_changes_nothing(proxies: tuple[Proxy, Proxy], shape: Shape) -> None:
    """Status, type, body or events in their order are the same, ids and times apart."""
    guarded, unguarded = proxies
    assert ask(guarded, shape) == ask(unguarded, shape)


@pytest.mark.parametrize("name", ["plain", "stream-tools", "response", "response-stream"])
def test_the_guarded_proxy_does_answer(proxies: tuple[Proxy, Proxy], name: str) -> None:
    """What is compared are answers, not the same error twice."""
    shape = next(shape for shape in SHAPES if shape.name == name)
    status, kind, content = ask(proxies[0], shape)
    assert status == 200
    assert kind.startswith("text/event-stream" if shape.stream else "application/json")
    told = str(content)
    assert ("look" if "tool" in name else "sharp knife") in told.replace("', '", "")

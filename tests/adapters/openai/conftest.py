"""A loopback upstream and wrapped clients, blocking and asynchronous behind one face."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from openai_stage import Caller

from demur.testing import Script, Upstream


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(request.param)
    yield caller
    caller.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Upstream]]:
    """Start an upstream with these models' replies."""
    running: list[Upstream] = []

    def start(**script: Script) -> Upstream:
        running.append(Upstream(script))
        return running[-1]

    yield start
    for upstream in running:
        upstream.close()

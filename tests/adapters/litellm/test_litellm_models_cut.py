"""Streams of ``Models`` with a Router, in blocking code, cut where nobody waits any more."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL
from test_litellm_sdk import ASK, policy, router_of

from demur.attachment import outcome_of
from demur.testing import Reply, Upstream

pytest.importorskip("litellm")

from demur.adapters.litellm import Models

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")

SCRIPT = {
    "m-refusing": Reply(REFUSAL),
    "m-late": Reply(" ".join([ANSWER] * 20), first_delay=2.5, delay=0.05),
    "m-stalling": Reply(ANSWER, chunks=(ANSWER[:4], ANSWER[4:40], ANSWER[40:]), delay=3.0),
    "m-pausing": Reply(ANSWER * 3, chunks=(ANSWER,) * 3, delay=2.0),
}


@pytest.fixture
def own() -> Iterator[Upstream]:
    """Nothing is cut by being collected, which may come late, or while a lock is held."""
    gc.disable()
    with Upstream(SCRIPT) as server:
        yield server
    gc.enable()


def router(upstream: Upstream) -> Any:
    names = ("refusing", "late", "stalling", "pausing")
    return router_of(upstream, **{name: f"m-{name}" for name in names})


@pytest.mark.parametrize("fallback", ["late", "stalling"])
def test_a_fallback_nobody_waits_for(
    own: Upstream, caplog: pytest.LogCaptureFixture, fallback: str
) -> None:
    """Its stream is cut once it opens, or brings more; the refusal has been served by then."""
    models = Models(policy("refusing", fallback, retry={"seconds": 2.0}), router=router(own))
    stream = models.completion("refusing", ASK, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == REFUSAL
    outcome = outcome_of(stream)
    assert outcome is not None
    assert [attempt.outcome for attempt in outcome.attempts] == ["refused", "failed"]
    (call,) = own.calls(f"m-{fallback}")
    assert call.finished.wait(10)
    assert call.cut
    assert not caplog.records


def test_closing_a_stream_that_another_thread_reads(own: Upstream) -> None:
    """The reader gets an end with what comes next, and nobody an error."""
    models = Models(policy("pausing", "late"), router=router(own))
    stream = models.completion("pausing", ASK, stream=True)
    read: list[Any] = []
    reader = threading.Thread(target=lambda: read.extend(stream), daemon=True)
    reader.start()
    time.sleep(0.5)
    stream.close()
    reader.join(10)
    assert not reader.is_alive()
    (call,) = own.calls("m-pausing")
    assert call.finished.wait(10)
    assert call.cut
    outcome = outcome_of(stream)
    assert outcome is not None
    assert outcome.finished

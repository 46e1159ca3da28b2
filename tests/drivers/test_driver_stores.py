"""Drivers ask the store they are given, alike; what it cannot tell costs no request anything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver_plans import (
    NORMAL,
    REFUSAL,
    complete_awaiting,
    complete_blocking,
    plan_of,
    run_awaiting,
    run_blocking,
)
from hypothesis import given
from hypothesis import strategies as st

from demur.drivers.awaiting import run_completion
from demur.drivers.stepping import Stepwise
from demur.flow.cells import Cells
from demur.flow.completion import completion_flow
from demur.flow.effects import Called
from demur.flow.ledger import Allowance, Look
from demur.policy.standing_settings import Breaker, Sticky
from demur.stores.memory import MemoryStore
from demur.testing import PhraseDetector, Reply, ScriptedModel
from demur.vocabulary import Completion, Evidence

BREAKER = Breaker(least=2, window=60.0, pause=30.0)
PLAN = plan_of(
    "b",
    "c",
    retry={"breaker": BREAKER, "sticky": Sticky(seconds=5.0)},
    cells=Cells("breaker", "sticky", (Allowance("budget", 60.0, (("calls", 4.0),)),)),
)
BROKEN = plan_of("b", retry={"breaker": BREAKER}, cells=Cells(breaker="breaker"))
turns = st.tuples(
    st.fixed_dictionaries(
        {
            name: st.sampled_from([Reply(REFUSAL), Reply(NORMAL), Reply(status=500)])
            for name in "abc"
        }
    ),
    st.sampled_from([0.0, 1.0, 6.0, 31.0]),
    st.booleans(),
    st.sampled_from([-1, 1]),
)


class Broken:
    def ask(self, operations: Any) -> Any:
        raise ConnectionError("redis://user:secret@host")

    async def aask(self, operations: Any) -> Any:
        raise ConnectionError("redis://user:secret@host")


def kept(store: MemoryStore) -> list[Any]:
    """What the cells say. Until when a breaker is open depends on how long requests took."""
    asked = (Look("breaker", 60.0), Look("sticky"), Look("budget", 60.0))
    cells = store.ask(asked).facts
    return [((cell.mark or "").partition(" ")[0], cell.amounts) for cell in cells]


@given(st.lists(turns, max_size=8))
def test_drivers_agree(turns: list[Any]) -> None:
    """One request after the other: both drivers call, serve, record and remember the same."""
    now = [1_000_000.0]
    one, other = (MemoryStore(clock=lambda: now[0]) for _ in range(2))
    for script, seconds, streamed, leave in turns:
        now[0] += seconds
        left, right = ScriptedModel(script), ScriptedModel(script)
        if streamed:
            seen = run_blocking(left, PLAN, leave=leave, store=one)
            same = asyncio.run(run_awaiting(right, PLAN, leave=leave, store=other))
        else:
            seen = complete_blocking(left, PLAN, store=one)
            same = complete_awaiting(right, PLAN, store=other)
        assert seen == same
        assert [(c.target, c.attempt) for c in left.calls] == [
            (c.target, c.attempt) for c in right.calls
        ]
        assert kept(one) == kept(other)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_broken_store_changes_nothing(streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go as if nothing was remembered, and nothing the store says is logged."""
    script = {"a": Reply(REFUSAL), "b": Reply(NORMAL)}
    for store in (Broken(), None):
        for _ in range(4):
            model, again = ScriptedModel(script), ScriptedModel(script)
            if streamed:
                run_blocking(model, BROKEN, store=store)
                asyncio.run(run_awaiting(again, BROKEN, store=store))
            else:
                complete_blocking(model, BROKEN, store=store)
                complete_awaiting(again, BROKEN, store=store)
            for found in (model, again):
                assert [call.target for call in found.calls] == ["a", "b"]
                assert found.finished[0].ending == "fell_back"
    assert "secret" not in caplog.text


def test_a_cancelled_request_leaves_its_mark() -> None:
    """A probe that is cancelled lets the next request probe."""
    now = [1_000_000.0]
    store = MemoryStore(clock=lambda: now[0])
    refusing = {"a": Reply(REFUSAL), "b": Reply(NORMAL)}
    for _ in range(3):
        complete_awaiting(ScriptedModel(refusing), BROKEN, store=store)
    now[0] += BREAKER.pause

    async def cancelled() -> None:
        slow = ScriptedModel({"a": Reply(NORMAL, first_delay=30.0), "b": Reply(NORMAL)})
        port = slow.awaiting()
        flow = completion_flow(BROKEN)
        task = asyncio.ensure_future(run_completion(flow, port, PhraseDetector(), store))
        while not slow.calls:  # noqa: ASYNC110 - a script has no event to wait for
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.finished[0].started == "probe"

    asyncio.run(cancelled())
    after = ScriptedModel({"a": Reply(NORMAL), "b": Reply(NORMAL)})
    assert complete_awaiting(after, BROKEN, store=store).records[-1].started == "probe"


async def test_stepping_asks_the_store() -> None:
    """Where a gateway makes the calls, the first one wanted may be a fallback's."""
    store, model = MemoryStore(), ScriptedModel({})
    wanted = []
    for _ in range(3):
        steps = Stepwise(completion_flow(BROKEN), model.awaiting(), PhraseDetector(), store)
        await steps.start()
        while steps.wanted is not None:
            wanted.append((steps.wanted.target.name, steps.wanted.attempt))
            text = REFUSAL if steps.wanted.target.name == "a" else NORMAL
            await steps.answer(Called(Completion((Evidence(text),))))
    assert wanted == [("a", 0), ("b", 1), ("a", 0), ("b", 1), ("b", 1)]

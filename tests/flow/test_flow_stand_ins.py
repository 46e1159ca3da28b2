"""A gateway's own fallback that answers for a model that erred: named, and counted for nobody."""

from __future__ import annotations

import pytest
from flow_stage import plan_of
from standing_stage import ALL, BREAKER, REFUSAL, B, C, D, World, breaking


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def world(request: pytest.FixtureRequest) -> World:
    return World(stream=request.param)


def test_what_another_model_says_in_its_place_does_not_count(world: World) -> None:
    """A gateway's own fallback for an error is named, and the requested model's breaker stays."""
    plan = breaking()
    for _ in range(2 * BREAKER.least):
        trace = world.ask(plan, {**ALL, "d": REFUSAL}, stand_in=D)
        assert [attempt.target for attempt in trace.outcome.attempts] == ["d", "b"]
        assert trace.outcome.ending == "fell_back"
    assert world.ask(plan, ALL).outcome.started is None


def test_a_probe_that_another_model_answers_has_failed(world: World) -> None:
    """The requested model erred: it is left alone for another pause."""
    plan = breaking()
    world.trip(plan)
    assert world.ask(plan, ALL).outcome.started == "breaker"
    world.clock.now += BREAKER.pause
    probe = world.ask(plan, ALL, stand_in=D)
    assert (probe.outcome.started, probe.outcome.ending) == ("probe", "accepted")
    assert world.ask(plan, ALL).outcome.started == "breaker"


def test_who_stood_in_is_not_asked_again(world: World) -> None:
    """The chain goes on behind it, and the gateway's call is none of the rule's."""
    plan = plan_of(B, C, D, retry={"attempts": 2})
    trace = world.ask(plan, {**ALL, "b": REFUSAL, "c": REFUSAL}, stand_in=B)
    assert [attempt.target for attempt in trace.outcome.attempts] == ["b", "c"]
    assert trace.outcome.ending == "exhausted"

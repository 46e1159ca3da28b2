"""Breaker, stickiness and budgets, played by hand: requests one after the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import pytest
from flow_stage import plan_of
from standing_stage import (
    ALL,
    BREAKER,
    DOWN,
    NORMAL,
    REFUSAL,
    REFUSING,
    STICKY,
    A,
    B,
    C,
    D,
    World,
    breaking,
    budgeted,
    sticking,
)

from demur.errors import RefusedError
from demur.flow.effects import CallModel, Consult, ConsumerLeft, OpenStream
from demur.flow.ledger import Cell
from demur.flow.standing import PROBE_SECONDS, Move, move, read_mark, stuck_to, to_mark
from demur.testing.detectors import RaisingDetector


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def world(request: pytest.FixtureRequest) -> World:
    return World(stream=request.param)


def test_a_plan_without_cells_asks_nobody(world: World) -> None:
    """Whoever wants none of this pays nothing: no effect more than before."""
    trace = world.ask(plan_of(B), REFUSING)
    assert not any(isinstance(effect, Consult) for effect in trace.effects)


@pytest.mark.parametrize(
    ("cell", "reason", "swaps_to"),
    [
        (Cell(), None, None),
        (Cell(None, {"judged": 3, "refused": 3}), None, None),
        (Cell(None, {"judged": 4, "refused": 1}), None, None),
        (Cell(None, {"judged": 4, "refused": 2}), "breaker", "open 1120.000"),
        (Cell("closed 900.000", {"judged": 8, "refused": 4}), "breaker", "open 1120.000"),
        (Cell("open 1000.001"), "breaker", None),
        (Cell("open 1000.000"), "probe", "probing 1600.000"),
        (Cell("probing 1000.001"), "breaker", None),
        (Cell("probing 1000.000"), "probe", "probing 1600.000"),
        (Cell("nonsense"), None, None),
        (Cell("open soon"), None, None),
    ],
)
def test_what_a_breaker_asks_for(cell: Cell, reason: Any, swaps_to: str | None) -> None:
    """The whole table: closed until enough was refused, open for its pause, then one probe."""
    found = move(BREAKER, "key", cell, 1000.0)
    assert found.reason == reason
    assert (found.swap and found.swap.new) == swaps_to
    assert found.swap is None or found.swap.old == cell.mark


def test_marks_are_read_as_written() -> None:
    """A state and its end, to the millisecond."""
    assert read_mark(to_mark("open", 1_700_000_000.1234)) == ("open", 1_700_000_000.123)


@pytest.mark.parametrize(
    ("mark", "target"),
    [
        ("0:b", B),
        ("1:c", C),
        ("1:b", None),
        ("2:d", None),
        ("-1:c", None),
        (None, None),
        ("x", None),
    ],
)
def test_a_conversations_mark_names_a_target_of_the_chain(mark: Any, target: Any) -> None:
    """By place and name: after a change of the policy it may name none."""
    assert stuck_to(plan_of(B, C), mark) == target


def test_a_breaker_opens_pauses_probes_and_closes(world: World) -> None:
    """Refused too often, the model is not called for the pause; then once, and then as before."""
    plan = breaking()
    world.trip(plan)
    for _ in range(3):
        trace = world.ask(plan, REFUSING)
        assert trace.tried == [B]
        assert (trace.outcome.started, trace.outcome.ending) == ("breaker", "fell_back")
        assert trace.outcome.fell_back
        assert [attempt.target for attempt in trace.outcome.attempts] == ["b"]
        assert world.text(trace) == NORMAL
    world.clock.now += BREAKER.pause
    probe = world.ask(plan, REFUSING)
    assert (probe.tried, probe.outcome.started) == ([A, B], "probe")
    assert world.ask(plan, ALL).outcome.started == "breaker"
    world.clock.now += BREAKER.pause
    probe = world.ask(plan, ALL)
    assert (probe.tried, probe.outcome.started) == ([A], "probe")
    assert not probe.outcome.fell_back
    # Closed with a clean slate: it takes as much as ever to open it again.
    world.trip(plan)
    assert world.ask(plan, ALL).outcome.started == "breaker"


def test_a_closed_breaker_has_forgotten_why_it_was_open(world: World) -> None:
    """A pause shorter than the window: what was refused before does not open it again."""
    short = BREAKER.model_copy(update={"pause": 5.0, "window": 600.0})
    plan = breaking(retry={"breaker": short})
    world.trip(plan)
    assert world.ask(plan, ALL).outcome.started == "breaker"
    world.clock.now += short.pause
    assert world.ask(plan, ALL).outcome.started == "probe"
    assert world.ask(plan, ALL).outcome.started is None


def test_a_breaker_weighs_rate_and_number(world: World) -> None:
    """Half of few, or few of many, opens nothing; what is too long ago does not count."""
    plan = breaking()
    world.trip(plan, BREAKER.least - 1)
    world.clock.now += BREAKER.window
    for _ in range(BREAKER.least):
        assert world.ask(plan, ALL).outcome.started is None
    world.trip(plan, BREAKER.least - 1)
    assert world.ask(plan, REFUSING).outcome.started is None
    assert world.ask(plan, REFUSING).outcome.started == "breaker"


def test_what_was_not_judged_does_not_count(world: World) -> None:
    """Neither errors nor failing detectors open a breaker, whatever they count as."""
    plan = breaking(on_error="refuse")
    for _ in range(2 * BREAKER.least):
        world.ask(plan, {**ALL, "a": DOWN})
        world.ask(plan, REFUSING, detector=RaisingDetector(ValueError("boom")))
    assert world.ask(plan, ALL).outcome.started is None


@pytest.mark.parametrize("lost", ["unjudged", "failed", "left"])
def test_a_probe_that_teaches_nothing(lost: str) -> None:
    """After one that was not judged the next request probes; after a failed call it pauses."""
    world, plan = World(stream=lost == "left"), breaking()
    world.trip(plan)
    assert world.ask(plan, ALL).outcome.started == "breaker"
    world.clock.now += BREAKER.pause
    if lost == "unjudged":
        probe = world.ask(plan, ALL, detector=RaisingDetector(ValueError("boom")))
    elif lost == "failed":
        probe = world.ask(plan, {**ALL, "a": DOWN})
    else:
        opening = 3  # after looking and claiming
        probe = world.ask(plan, ALL, throw={opening: ConsumerLeft()})
    assert probe.outcome.started == "probe"
    expected = "breaker" if lost == "failed" else "probe"
    assert world.ask(plan, ALL).outcome.started == expected


def test_a_lost_probe_is_replaced(world: World) -> None:
    """A probe whose process died holds the others up for its time, no longer."""
    plan = breaking()
    world.trip(plan)
    world.ask(plan, ALL)
    world.clock.now += BREAKER.pause
    flow = World(stream=False, clock=world.clock, store=world.store)
    with pytest.raises(GeneratorExit):
        raise flow.ask(plan, ALL, throw={2: GeneratorExit()}).error  # type: ignore[misc]
    assert world.ask(plan, ALL).outcome.started == "breaker"
    world.clock.now += PROBE_SECONDS
    assert world.ask(plan, ALL).outcome.started == "probe"


def test_the_chain_goes_on_from_where_it_started(world: World) -> None:
    """The fallbacks follow in order; the requested model is not among them."""
    plan = breaking(B, C, D)
    world.trip(plan)
    trace = world.ask(plan, {**REFUSING, "b": REFUSAL, "c": DOWN})
    assert trace.tried == [B, C, D]
    assert [attempt.outcome for attempt in trace.outcome.attempts] == [
        "refused", "failed", "accepted",
    ]  # fmt: skip
    assert world.text(trace) == NORMAL


def test_a_start_at_a_fallback_is_no_attempt_of_the_requested_model(world: World) -> None:
    """The number of calls a rule allows is that of calls made."""
    plan = breaking(B, C, D, retry={"attempts": 2})
    world.trip(plan)
    trace = world.ask(plan, {**REFUSING, "b": REFUSAL, "c": REFUSAL})
    assert trace.tried == [B, C]


@pytest.mark.parametrize(("exhausted", "served"), [("first", "b"), ("last", "c"), ("error", None)])
def test_all_that_were_asked_refuse(world: World, exhausted: str, served: str | None) -> None:
    """The first that answered, the last, or an error: of those that were asked."""
    plan = breaking(B, C, retry={"exhausted": exhausted})
    world.trip(breaking(B, C))
    trace = world.ask(plan, {**REFUSING, "b": REFUSAL + " No.", "c": REFUSAL + " Never."})
    assert trace.tried == [B, C]
    if served is None:
        assert isinstance(trace.error, RefusedError)
        return
    assert trace.outcome.served_attempt is not None
    assert trace.outcome.served_attempt.target == served
    assert (trace.outcome.ending, trace.outcome.fell_back) == ("exhausted", True)


def test_if_nobody_answers_the_caller_gets_its_own_call(world: World) -> None:
    """When every fallback fails the requested model is called after all, as if first."""
    plan = breaking(B, C)
    world.trip(plan)
    for said, ending in ((NORMAL, "accepted"), (REFUSAL, "exhausted")):
        trace = world.ask(plan, {"a": said, "b": DOWN, "c": DOWN})
        calls = [e for e in trace.effects if isinstance(e, CallModel | OpenStream)]
        assert [(e.target, e.attempt) for e in calls] == [(B, 1), (C, 2), (A, 0)]
        assert calls[-1].timeout is None
        assert world.text(trace) == said
        assert trace.outcome.ending == ending
        assert trace.outcome.served == 2
    assert not replace(trace.outcome, requested_model="a").fell_back
    trace = world.ask(plan, {"a": DOWN, "b": DOWN, "c": DOWN})
    assert (trace.error, trace.outcome.ending) == (DOWN, "failed")


def test_the_first_call_is_given_its_time(world: World) -> None:
    """A fallback that is asked first is not cut short; those after it share the rule's seconds."""
    plan = breaking(B, C, retry={"seconds": 30.0})
    world.trip(plan)
    trace = world.ask(plan, {**REFUSING, "b": REFUSAL})
    calls = [e.timeout for e in trace.effects if isinstance(e, CallModel | OpenStream)]
    assert calls == [None, 30.0]


def test_a_start_needs_rights(world: World) -> None:
    """The first fallback that may be called; with none of them, the requested model."""
    plan = breaking(B, C)
    world.trip(plan)
    assert world.ask(plan, REFUSING, usable=frozenset("c")).tried == [C]
    trace = world.ask(plan, REFUSING, usable=frozenset())
    assert (trace.tried, trace.outcome.started) == ([A], None)
    assert world.text(trace) == REFUSAL


def test_a_conversation_stays_where_it_was_answered(world: World) -> None:
    """After a refusal the next turns go to the model that answered, for the time given."""
    first = world.ask(sticking(), {**REFUSING, "b": REFUSAL})
    assert first.tried == [A, B, C]
    trace = world.ask(sticking(), REFUSING)
    assert (trace.tried, trace.outcome.started, trace.outcome.ending) == (
        [C],
        "sticky",
        "fell_back",
    )
    assert world.ask(sticking(conversation="another"), ALL).tried == [A]
    world.clock.now += STICKY.seconds - 1
    assert world.ask(sticking(), REFUSING).tried == [C]
    world.clock.now += 1
    assert world.ask(sticking(), ALL).tried == [A]


def test_a_conversation_moves_on_when_refused_again(world: World) -> None:
    """Where the model it stays with refuses, the chain goes on, and the next one is stayed with."""
    world.ask(sticking(), REFUSING)
    assert world.ask(sticking(), {**ALL, "b": REFUSAL}).tried == [B, C]
    assert world.ask(sticking(), ALL).tried == [C]


def test_what_makes_no_conversation_stick(world: World) -> None:
    """An answer, an error of a fallback alone, a refusal by all: the next turn starts as ever."""
    world.ask(sticking(), ALL)
    world.ask(sticking(), {**ALL, "a": REFUSAL, "b": REFUSAL, "c": REFUSAL, "d": REFUSAL})
    assert world.ask(sticking(), ALL).tried == [A]


def test_a_conversation_needs_rights_and_a_chain_that_has_its_model(world: World) -> None:
    """Without the right to it, or when the policy has dropped it, a turn starts as ever."""
    world.ask(sticking(), {**REFUSING, "b": REFUSAL})
    assert world.ask(sticking(), ALL, usable=frozenset("b")).tried == [A]
    assert world.ask(sticking(B, D), ALL).tried == [A]
    assert world.ask(sticking(), ALL).tried == [C]


def test_a_budget_of_calls(world: World) -> None:
    """So many retries a window; beyond, the refusal is served as it is, and the record says why."""
    plan = budgeted(calls=2.0)
    for _ in range(2):
        assert world.ask(plan, REFUSING).outcome.limited is None
    trace = world.ask(plan, REFUSING)
    assert (trace.tried, trace.outcome.limited, trace.outcome.ending) == ([A], "budget", "accepted")
    assert world.text(trace) == REFUSAL
    assert world.ask(plan, ALL).outcome.limited is None
    world.clock.now += 60.0
    assert world.ask(plan, REFUSING).tried == [A, B]


def test_a_budget_can_end_within_a_chain(world: World) -> None:
    """The chain ends there, with what the policy serves when nothing is left."""
    trace = world.ask(budgeted(B, C, calls=1.0), {**REFUSING, "b": REFUSAL})
    assert trace.tried == [A, B]
    assert (trace.outcome.ending, trace.outcome.limited) == ("exhausted", "budget")
    assert trace.outcome.served == 0


def test_a_budget_of_seconds(world: World) -> None:
    """What callers waited for added calls is added up; when it is spent no call is added.

    The first call is none of them, however long it took; those that were refused are.
    """
    plan, spent = budgeted(B, C, seconds=8.0), 0.0
    while spent < 8.0:
        seconds = chain([9.0], repeat(0.5))
        trace = world.ask(plan, {**REFUSING, "b": REFUSAL}, seconds=seconds)
        assert (trace.tried, trace.outcome.limited) == ([A, B, C], None)
        assert trace.outcome.attempts[0].seconds >= 9.0
        spent += sum(attempt.seconds for attempt in trace.outcome.attempts[1:])
    assert world.ask(plan, REFUSING).outcome.limited == "budget"


def test_a_budget_of_cost() -> None:
    """Added calls are paid from it: a fallback's tokens at its price."""
    world, plan = World(), budgeted(cost=0.01)
    for _ in range(2):  # 1000 in, 2000 out: 0.005 each
        assert world.ask(plan, REFUSING).outcome.limited is None
    assert world.ask(plan, REFUSING).outcome.limited == "budget"


def test_shadow_mode_only_records(world: World) -> None:
    """The requested model is called, always; what would have been done is in the record."""
    plan = replace(breaking(), shadow=True)
    for _ in range(BREAKER.least):
        assert world.ask(plan, REFUSING).tried == [A]
    trace = world.ask(plan, ALL)
    assert (trace.tried, world.text(trace)) == ([A], NORMAL)
    assert (trace.outcome.started, trace.outcome.would) == ("breaker", "fell_back")
    assert not trace.outcome.fell_back
    world.clock.now += BREAKER.pause
    assert world.ask(plan, ALL).outcome.started == "probe"
    assert world.ask(plan, ALL).outcome.started is None


def test_shadow_mode_would_stick_and_spend(world: World) -> None:
    """A conversation would have moved, a budget would have been used up."""
    plan = replace(sticking(), shadow=True)
    world.ask(plan, REFUSING)
    trace = world.ask(plan, ALL)
    assert (trace.tried, trace.outcome.started) == ([A], "sticky")
    spent = replace(budgeted(calls=1.0), shadow=True)
    assert world.ask(spent, REFUSING).outcome.would == "fell_back"
    trace = world.ask(spent, REFUSING)
    assert (trace.outcome.would, trace.outcome.limited) == (None, "budget")


def test_a_store_that_fails_changes_nothing(world: World) -> None:
    """Without an answer from the store a request goes as it would without these settings."""

    class Broken:
        def ask(self, operations: Any) -> Any:
            raise ConnectionError

    world.store = Broken()
    for plan in (breaking(), sticking(B), budgeted(calls=1.0)):
        for _ in range(2 * BREAKER.least):
            trace = world.ask(plan, REFUSING)
            assert (trace.tried, trace.outcome.started, trace.outcome.limited) == (
                [A, B], None, None,
            )  # fmt: skip


def test_no_move_without_a_reason() -> None:
    """The default asks for nothing."""
    assert Move() == Move(None, None)

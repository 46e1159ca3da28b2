"""Many requests at once, in every order: the breaker and the budgets hold all the same."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from flow_stage import A, B, C, plan_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standing_stage import NORMAL, REFUSAL, Clock

from demur.flow.cells import Cells
from demur.flow.completion import completion_flow
from demur.flow.effects import (
    Answer,
    Called,
    CallModel,
    Classify,
    Consult,
    Effect,
    Emit,
    Failed,
    FindUsable,
    Judged,
    Usable,
)
from demur.flow.ledger import Allowance, Look
from demur.flow.standing import read_mark
from demur.policy.standing_settings import Breaker
from demur.stores.memory import MemoryStore
from demur.stores.redis import RedisStore
from demur.testing.detectors import PhraseDetector
from demur.vocabulary import Completion, Evidence, Outcome

BREAKER = Breaker(rate=0.5, window=60.0, least=2, pause=120.0)
CALLS, PER = 3, 600.0
MOST = 6
PLAN = plan_of(
    B,
    C,
    retry={"breaker": BREAKER},
    cells=Cells(breaker="breaker", budgets=(Allowance("budget", PER, (("calls", CALLS),)),)),
)
ALLOWED = {
    ("closed", "open"),
    ("open", "probing"),
    ("probing", "open"),
    ("probing", "closed"),
    ("probing", "probing"),
}


@dataclass(eq=False)
class Request:
    """One flow and the effect it waits for an answer to."""

    flow: Generator[Effect, Answer, Any]
    waits_for: Effect | None = None
    calls: list[Any] = field(default_factory=list)
    outcome: Outcome | None = None
    probes_until: float = 0.0

    def go(self, answer: Answer | None = None) -> None:
        try:
            self.waits_for = self.flow.send(answer)
        except StopIteration:
            self.waits_for = None
        except ConnectionError:
            self.waits_for = None


class Crowd:
    """Requests under way; ``random`` says who goes next, and what models answer."""

    def __init__(self, store: Any, clock: Clock, random: Random) -> None:
        self.store, self.clock, self.random = store, clock, random
        self.requests: list[Request] = []
        self.state, self.until = "closed", 0.0
        self.refusal_rate = 0.5
        self.added: list[float] = []

    def step(self) -> None:
        kind = self.random.random()
        if not self.requests or (kind < 0.2 and len(self.requests) < MOST):
            self._arrive()
        elif kind < 0.27:
            self._pass_time(self.random.choice([1.0, 20.0, 60.0, 130.0, 700.0]))
        elif kind < 0.3:
            self.refusal_rate = self.random.choice([0.0, 0.5, 1.0])
        elif kind < 0.32:
            self._drop(self.random.choice(self.requests))
        else:
            self._advance(self.random.choice(self.requests))
        self._check_probes()

    def _arrive(self) -> None:
        request = Request(completion_flow(PLAN))
        request.go()
        self.requests.append(request)

    def _pass_time(self, seconds: float) -> None:
        """Models take their time; a store answers at once."""
        for request in [*self.requests]:
            while isinstance(request.waits_for, Consult):
                self._advance(request)
        self.clock.now += seconds

    def _drop(self, request: Request) -> None:
        """As when its process dies."""
        request.flow.close()
        self.requests.remove(request)

    def _advance(self, request: Request) -> None:
        effect = request.waits_for
        assert effect is not None
        request.go(self._answer(request, effect))
        self._check_state()
        if isinstance(request.waits_for, CallModel):
            self._check_call(request, request.waits_for)
        if request.waits_for is None:
            self._check_done(request)
            self.requests.remove(request)

    def _answer(self, request: Request, effect: Effect) -> Answer:
        match effect:
            case Consult(operations):
                told = self.store.ask(operations)
                for operation, fact in zip(operations, told.facts, strict=True):
                    if "probing" in getattr(operation, "new", "") and fact:
                        request.probes_until = read_mark(operation.new)[1]
                    elif "probing" in (getattr(operation, "old", None) or ""):
                        request.probes_until = 0.0
                return told
            case FindUsable(targets):
                return Usable(targets)
            case CallModel(target):
                if self.random.random() < 0.1:
                    return Failed(ConnectionError("down"))
                rate = self.refusal_rate if target is A else 0.3
                text = REFUSAL if self.random.random() < rate else NORMAL
                return Called(Completion((Evidence(text),)))
            case Classify(evidence, final):
                return Judged(PhraseDetector().classify(evidence, final=final))
            case Emit(record):
                request.outcome = record
        return None

    def _check_state(self) -> None:
        """The breaker goes through its states in their order, and no faster than it may."""
        (cell,) = self.store.ask((Look("breaker", BREAKER.window),)).facts
        state, until = read_mark(cell.mark)
        if (state, until) == (self.state, self.until):
            return
        assert (self.state, state) in ALLOWED
        if self.state == "open" or (self.state, state) == ("probing", "probing"):
            assert self.clock.now >= self.until
        if (self.state, state) == ("closed", "open"):
            assert cell.amounts.get("judged", 0) >= BREAKER.least
        self.state, self.until = state, until

    def _check_call(self, request: Request, call: CallModel) -> None:
        request.calls.append(call.target)
        assert request.calls.count(call.target) == 1
        fallbacks = [target for target in request.calls if target is not A]
        assert fallbacks == [target for target in PLAN.chain if target in fallbacks]
        if call.target is A:
            assert call.attempt == 0
            return
        if len(request.calls) > 1:
            self.added.append(self.clock.now)
            lately = [at for at in self.added if at > self.clock.now - PER * 11 / 12]
            assert len(lately) <= CALLS

    def _check_probes(self) -> None:
        """One probe at a time, unless one has not been heard of for its time."""
        probing = [request for request in self.requests if self.clock.now < request.probes_until]
        assert len(probing) <= 1

    def _check_done(self, request: Request) -> None:
        outcome = request.outcome
        assert outcome is not None
        assert [attempt.target for attempt in outcome.attempts] == [t.name for t in request.calls]
        if outcome.started == "breaker":
            assert request.calls[0] is B
            assert A not in request.calls or len(outcome.attempts) == len(request.calls)
        else:
            assert request.calls[0] is A


def run(store: Any, clock: Clock, random: Random, steps: int) -> Crowd:
    crowd = Crowd(store, clock, random)
    for _ in range(steps):
        crowd.step()
    return crowd


@given(st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_any_order(random: Random) -> None:
    """Of requests that overlap in any way one opens, one probes, and each follows the chain."""
    clock = Clock()
    run(MemoryStore(clock=clock), clock, random, 150)


@pytest.mark.parametrize("seed", range(3))
def test_every_state_is_reached(seed: int) -> None:
    """The walk above does open, probe and close; else it would have shown nothing."""
    clock, seen = Clock(), set()
    crowd = Crowd(MemoryStore(clock=clock), clock, Random(seed))
    for _ in range(3000):
        before = crowd.state
        crowd.step()
        seen.add((before, crowd.state))
    assert seen - {(state, state) for state in ("open", "closed", "probing")} >= ALLOWED - {
        ("probing", "probing")
    }


@given(st.randoms(use_true_random=False))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_over_redis(redis_url: str, random: Random) -> None:
    """The same where the state is in a Redis."""
    redis = pytest.importorskip("redis")
    clock = Clock()
    with redis.Redis.from_url(redis_url) as client:
        run(RedisStore(client, uuid.uuid4().hex, clock=clock), clock, random, 100)

"""Requests that share a store, on a clock that only a test moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flow_stage import A, B, C, D, Stage, Trace, plan_of, stream_of

from demur.flow.cells import Cells
from demur.flow.completion import completion_flow
from demur.flow.consulting import start_flow
from demur.flow.ledger import Allowance
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.policy.standing_settings import Breaker, Price, Sticky
from demur.stores.memory import MemoryStore
from demur.vocabulary import Completion, Evidence, Target, Usage

NORMAL = "Sure, here it is, all of it."
REFUSAL = "I'm sorry, I can't help with that."
DOWN = ConnectionError("down")
BREAKER = Breaker(rate=0.5, window=60.0, least=4, pause=120.0)
STICKY = Sticky(seconds=900.0)
ALL = {"a": NORMAL, "b": NORMAL, "c": NORMAL, "d": NORMAL}
REFUSING = {**ALL, "a": REFUSAL}


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A store, a time, and what every model says. ``stream`` says how requests are made."""

    stream: bool = False
    clock: Clock = field(default_factory=Clock)
    store: Any = None

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(clock=self.clock)

    def ask(
        self,
        plan: Plan,
        scripts: Mapping[str, Any],
        *,
        stand_in: Target | None = None,
        **stage: Any,
    ) -> Trace:
        """One request. ``stand_in`` answers in place of the model it asks for."""
        said = {name: self.script(what) for name, what in scripts.items()}
        if stand_in is not None:
            said[plan.requested.name] = said[stand_in.name]
        made = Stage(said, store=self.store, **stage)
        start = None
        if stand_in is not None:
            start = replace(made.play(start_flow(plan)).result, stand_in=stand_in)
        trace = made.play((stream_flow if self.stream else completion_flow)(plan, start))
        assert [opening.closes for opening in trace.opened] == [1] * len(trace.opened)
        return trace

    def script(self, what: Any) -> Any:
        if not isinstance(what, str):
            return what
        if self.stream:
            return stream_of(what)
        return Completion((Evidence(what),), native=object(), usage=Usage(1000, 2000))

    def trip(self, plan: Plan, times: int = BREAKER.least) -> None:
        """As many refusals as open the breaker for the request that comes next."""
        for _ in range(times):
            assert self.ask(plan, REFUSING).outcome.started is None

    def text(self, trace: Trace) -> str:
        """What the caller got."""
        if self.stream:
            return "".join(delta.text for chunk in trace.got for delta in chunk.deltas)
        text: str = trace.result.completion.choices[0].text
        return text


def breaking(*chain: Any, **plan: Any) -> Plan:
    """A plan with a breaker, falling back on ``B`` unless told otherwise."""
    retry = {"breaker": BREAKER, **plan.pop("retry", {})}
    return plan_of(*(chain or (B,)), retry=retry, cells=Cells(breaker="breaker"), **plan)


def sticking(*chain: Any, conversation: str = "one", **plan: Any) -> Plan:
    """A plan for a turn of a conversation that stays with whoever answers."""
    retry = {"sticky": STICKY, **plan.pop("retry", {})}
    cells = Cells(sticky=conversation)
    return plan_of(*(chain or (B, C, D)), retry=retry, cells=cells, **plan)


def budgeted(*chain: Any, per: float = 60.0, **limits: float) -> Plan:
    """A plan under a budget; models cost 1.0 for a million tokens in, 2.0 for a million out."""
    prices = {name: Price(input=1.0, output=2.0) for name in "abcd"}
    allowance = Allowance("budget", per, tuple(limits.items()))
    cells = Cells(budgets=(allowance,), prices=prices)
    return plan_of(*(chain or (B,)), cells=cells)


__all__ = [
    "ALL", "BREAKER", "DOWN", "NORMAL", "REFUSAL", "REFUSING", "STICKY",
    "A", "B", "C", "Clock", "D", "World", "breaking", "budgeted", "sticking",
]  # fmt: skip

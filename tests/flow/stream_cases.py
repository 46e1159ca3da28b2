"""Streams of every kind, policies of every kind, and what the design says comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flow_stage import FILTERED, A, B, C, D, Script, Stage, Trace, chunk, plan_of, stream_of
from hypothesis import strategies as st

from demur.errors import RefusedError
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.vocabulary import Chunk, Target

REFUSAL = "I'm sorry, but I can't help with that request, not now and not later."
NORMAL = "Sure, here is how you do it: take a large pan and put in the butter first."
PARTIAL = "I can only tell you half of it, the other half has to stay with me today."


def play(plan: Plan, scripts: Mapping[str, Script], **stage: Any) -> Trace:
    return Stage(scripts, **stage).play(stream_flow(plan))


@dataclass(eq=False)
class Act:
    """What one model does, and how the design sees it.

    ``label`` is that of the whole, ``None`` where it is not judged. ``opens`` is ``False`` where
    opening fails, ``early`` says that the stream breaks before it can be decided.
    """

    script: Script
    label: str | None
    opens: bool = True
    early: bool = False
    kind: str = ""


@st.composite
def acts(draw: st.DrawFn) -> Act:
    size = draw(st.integers(1, 30))
    # Refusals most of the time, or chains would seldom come to their end.
    kind = draw(st.sampled_from(["refuse"] * len(KINDS) + sorted(KINDS)))
    return replace(KINDS[kind](size), kind=kind)


def _tool_call(size: int) -> list[Chunk]:
    return [chunk(), chunk("I'm"), chunk(non_text=True), chunk(non_text=True), chunk(finished=True)]


def _broken(text: str, size: int) -> list[Any]:
    return [*stream_of(text, size)[:-1], ConnectionResetError("scripted")]


KINDS = {
    "refuse": lambda size: Act(stream_of(REFUSAL, size), "refusal"),
    "answer": lambda size: Act(stream_of(NORMAL, size), "normal"),
    "partial": lambda size: Act(stream_of(PARTIAL, size), "partial"),
    "short": lambda size: Act(stream_of("I'm", size), "normal"),
    "empty": lambda size: Act(stream_of("", size), "refusal"),
    "nothing": lambda size: Act([], None),
    "filtered": lambda size: Act(stream_of("I'm", size, signals=(FILTERED,)), "refusal"),
    "tool": lambda size: Act(_tool_call(size), "normal"),
    "unfinished": lambda size: Act(stream_of(REFUSAL, size)[:-1], "refusal"),
    "opaque": lambda size: Act([chunk(), Chunk(object(), opaque=True), chunk(REFUSAL)], None),
    "no-open": lambda size: Act(ConnectionError("scripted"), None, opens=False),
    "breaks-early": lambda size: Act(_broken("I'm", size), None, early=True),
    "breaks-refusing": lambda size: Act(_broken(REFUSAL, size), "refusal"),
    "breaks-answering": lambda size: Act(_broken(NORMAL, size), "normal"),
}


class Case:
    """A plan and what its models do. No dataclass: Hypothesis would print every chunk."""

    def __init__(self, plan: Plan, acts: dict[str, Act], usable: frozenset[str] | None) -> None:
        self.plan, self.acts, self.usable = plan, acts, usable

    def __repr__(self) -> str:
        kinds = {name: act.kind for name, act in self.acts.items()}
        rule, chain = self.plan.rule, [target.name for target in self.plan.chain]
        return f"{kinds} {chain} {rule.on} {rule.actions} {rule.retry} {self.usable}"

    @property
    def scripts(self) -> dict[str, Script]:
        return {name: act.script for name, act in self.acts.items()}

    def play(self, **stage: Any) -> Trace:
        return play(self.plan, self.scripts, usable=self.usable, **stage)


@st.composite
def cases(draw: st.DrawFn, shadow: bool = False) -> Case:
    chain = tuple(draw(st.lists(st.sampled_from([A, B, C, D]), max_size=4)))
    actions = ("tag", "error") if not chain and draw(st.booleans()) else ("tag", "log")
    plan = plan_of(
        *chain,
        actions=actions,
        on=draw(st.sampled_from([("refusal",), ("partial",), ("refusal", "partial")])),
        retry={
            "exhausted": draw(st.sampled_from(["first", "last", "error"])),
            "attempts": draw(st.none() | st.integers(2, 4)),
        },
        shadow=shadow,
    )
    usable = draw(st.none() | st.frozensets(st.sampled_from("bcd")))
    return Case(plan, {name: draw(acts()) for name in "abcd"}, usable)


def expected(case: Case) -> tuple[list[Target], Any]:
    """The design in a few lines: who is opened, and who is served, or what is raised instead."""
    plan, first = case.plan, case.acts["a"]
    if not first.opens:
        return [A], first.script
    if first.label not in plan.rule.on or not plan.enforced:
        return [A], A
    tried, answered = [A], [A]
    limit = (plan.rule.retry.attempts if plan.rule.retry else None) or 99
    for target in plan.chain:
        if target in tried or (case.usable is not None and target.name not in case.usable):
            continue
        if len(tried) == limit:
            break
        tried.append(target)
        act = case.acts[target.name]
        if not act.opens or act.early or act.label is None:
            continue
        if act.label not in plan.rule.on:
            return tried, target
        answered.append(target)
    if "error" in plan.rule.actions:
        return tried, RefusedError
    assert plan.rule.retry is not None
    serve = plan.rule.retry.exhausted
    return tried, RefusedError if serve == "error" else answered[0 if serve == "first" else -1]


def whole(script: Script) -> tuple[list[Chunk], Exception | None]:
    assert not isinstance(script, Exception)
    events = list(script)  # type: ignore[arg-type]
    error = events.pop() if events and isinstance(events[-1], Exception) else None
    return events, error  # type: ignore[return-value]


def same(one: list[Chunk], other: list[Chunk]) -> bool:
    return [id(chunk) for chunk in one] == [id(chunk) for chunk in other]


def check_closed_once(trace: Trace) -> None:
    assert [stream.closes for stream in trace.opened] == [1] * len(trace.opened)

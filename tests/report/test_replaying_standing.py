"""Replay of policies that look beyond one request: at the times that are on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from demur.drivers.blocking import run_completion
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.policy import load_policy
from demur.report.experience import Experience
from demur.report.replaying import Past, Replayed, replay, replayable
from demur.report.restoring import Entry, restored
from demur.sinks import to_record
from demur.stores.memory import MemoryStore
from demur.testing import PhraseDetector, Reply, ScriptedModel
from demur.vocabulary import Outcome

REFUSAL, ANSWER = Reply("I'm sorry, but I can't help with that."), Reply("Sure, here it is.")
BREAKER = {"least": 3, "window": 60.0, "pause": 30.0}


def policy(retry: Mapping[str, Any], **more: Any) -> Any:
    rule = {"name": "r", "actions": ["tag", "retry"], "retry": {"fallbacks": ["b"], **retry}}
    return load_policy({"version": 1, "rules": [rule], **more})


def lived(used: Any, refusals: str, *, every: float = 1.0) -> list[Outcome]:
    """What ``used`` does about a request each ``every`` seconds; ``r`` is a refusing model."""
    now = [1_000_000.0]
    store = MemoryStore(clock=lambda: now[0])
    outcomes = []
    for letter in refusals:
        model = ScriptedModel({"a": REFUSAL if letter == "r" else ANSWER, "b": ANSWER})
        plan: Any = Plan.of(used, api="chat", model="a", stream=False, metadata={})
        object.__setattr__(plan, "time", now[0])
        run_completion(completion_flow(plan), model.blocking(), PhraseDetector(), store)
        outcomes.extend(model.finished)
        now[0] += every
    return outcomes


def replayed(outcomes: Sequence[Outcome], new: Any) -> list[Replayed]:
    entries = [restored(to_record(outcome), "here") for outcome in outcomes]
    experience, past = Experience.of(entry.outcome for entry in entries), Past()
    used = replayable(new)
    return [replay(Entry(entry.outcome), used, experience, None, past) for entry in entries]


def started(found: Sequence[Replayed]) -> list[Any]:
    return [one.new and one.new.started for one in found]


def test_records_come_back() -> None:
    """How a request started, and what kept it from a retry, is on record where it is so."""
    outcomes = lived(policy({"breaker": BREAKER}, budgets=[{"calls": 2}]), "rrrr")
    assert [o.started for o in outcomes] == [None, None, None, "breaker"]
    assert [o.limited for o in outcomes] == [None, None, "budget", None]
    records = [to_record(outcome) for outcome in outcomes]
    assert [(r.get("started"), r.get("limited")) for r in records] == [
        (o.started, o.limited) for o in outcomes
    ]
    assert "started" not in records[0]
    again = [restored(record, "here").outcome for record in records]
    assert [(o.started, o.limited, o.fell_back) for o in again] == [
        (o.started, o.limited, o.fell_back) for o in outcomes
    ]


def test_the_same_policy_does_the_same() -> None:
    """Openings, pauses and probes come out as they were."""
    same = policy({"breaker": BREAKER}, budgets=[{"calls": 5}])
    outcomes = lived(same, "rrr" + "r" * 40 + "." * 20)
    assert {"breaker", "probe", None} == {outcome.started for outcome in outcomes}
    found = replayed(outcomes, same)
    assert started(found) == [outcome.started for outcome in outcomes]
    assert not [one for one in found if one.differs]


def test_a_breaker_that_was_not_there() -> None:
    """What it would have spared: calls that were refused."""
    outcomes = lived(policy({}), "rrrrrr")
    found = replayed(outcomes, policy({"breaker": BREAKER}))
    assert started(found) == [None] * 3 + ["breaker"] * 3
    assert [len(one.new.attempts) for one in found if one.new] == [2, 2, 2, 1, 1, 1]


def test_without_the_breaker_that_was_there() -> None:
    """The call that was not made is made up, and said to be."""
    outcomes = lived(policy({"breaker": BREAKER}), "rrrrrr")
    found = replayed(outcomes, policy({}))
    assert started(found) == [None] * 6
    assert [one.guessed for one in found] == [False] * 3 + [True] * 3


@pytest.mark.parametrize(("by", "limited"), [("all", "budget"), ("key", None), ("team", None)])
def test_budgets_of_the_unknown(by: str, limited: str | None) -> None:
    """A record does not say whose it is, so budgets of somebody are not replayed."""
    budgeted = policy({}, budgets=[{"calls": 1, "by": by}])
    found = replayed(lived(policy({}), "rr"), budgeted)
    assert [one.new and one.new.limited for one in found] == [None, limited]

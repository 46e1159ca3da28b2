"""Which cells a request has to do with: whose they are, and what their keys show."""

from __future__ import annotations

from typing import Any

import pytest

from demur.flow.cells import Cells
from demur.flow.plan import Plan
from demur.policy import load_policy

RETRY = {"fallbacks": ["b"], "breaker": {}, "sticky": {"by": "thread"}}
BUDGETS = [{"calls": 1}, {"calls": 1, "by": "key"}, {"calls": 1, "by": "team"}]


def cells(
    *, model: str = "a", conversation: str | None = None, mode: str = "enforce", **metadata: Any
) -> Cells:
    rule = {"name": "r", "actions": ["retry"], "retry": RETRY, "mode": mode}
    policy = load_policy({"version": 1, "rules": [rule], "budgets": BUDGETS})
    plan = Plan.of(
        policy, api="chat", model=model, stream=False, metadata=metadata, conversation=conversation
    )
    assert plan is not None
    assert plan.cells is not None
    return plan.cells


def test_a_rule_that_does_not_retry_has_none() -> None:
    """What ``retry`` says counts only where it is among the actions, as for the store."""
    rule = {"name": "r", "actions": ["tag"], "retry": RETRY}
    policy = load_policy({"version": 1, "rules": [rule], "budgets": BUDGETS})
    plan = Plan.of(policy, api="chat", model="a", stream=False, metadata={})
    assert plan is not None
    assert plan.cells is None


def test_a_conversation_is_named_by_metadata_or_header() -> None:
    """The header wins; without either there is none."""
    named = cells(thread="7").sticky
    assert named is not None
    assert cells(conversation="7").sticky == named
    assert cells(conversation="7", thread="8").sticky == named
    assert cells(thread=7).sticky == named
    assert cells().sticky is None
    assert cells(thread="").sticky is None
    assert cells(thread=["7"]).sticky is None


def test_callers_do_not_share_conversations() -> None:
    """The same id under two LiteLLM keys, models or modes names two conversations."""
    found = {
        cells(thread="7").sticky,
        cells(thread="8").sticky,
        cells(thread="7", model="c").sticky,
        cells(thread="7", mode="shadow").sticky,
        cells(thread="7", user_api_key_hash="one").sticky,
        cells(thread="7", user_api_key="two").sticky,
    }
    assert len(found) == 6


def test_a_breaker_is_one_for_all() -> None:
    """It depends on rule, model and mode, not on who asks."""
    assert cells(user_api_key="one", thread="7").breaker == cells().breaker
    assert len({cells().breaker, cells(model="c").breaker, cells(mode="shadow").breaker}) == 3


def test_budgets_are_for_all_for_a_key_or_for_a_value() -> None:
    """Each counts for its own: everybody, a LiteLLM key, a value of the metadata."""
    one, two = (cells(user_api_key=key, team=team) for key, team in (("k", "x"), ("l", "x")))
    same = [a.key == b.key for a, b in zip(one.budgets, two.budgets, strict=True)]
    assert same == [True, False, True]
    three = cells(user_api_key="k", team="y")
    same = [a.key == b.key for a, b in zip(one.budgets, three.budgets, strict=True)]
    assert same == [True, True, False]


def test_keys_show_nothing() -> None:
    """Names, ids and LiteLLM keys are not to be read in them, and none is long."""
    found = cells(model="secret-model" * 1000, thread="secret-thread", user_api_key="secret-key")
    keys = [found.breaker, found.sticky, *(budget.key for budget in found.budgets)]
    assert not [key for key in keys if key is None or "secret" in key or len(key) > 60]


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "r", "actions": ["tag"], "retry": RETRY},
        {"name": "r", "actions": ["error"]},
        {"name": "r"},
    ],
)
def test_rules_that_do_not_retry_have_no_cells(rule: Any) -> None:
    """Nothing to start elsewhere, nothing to spend."""
    policy = load_policy({"version": 1, "rules": [rule], "budgets": BUDGETS})
    plan = Plan.of(policy, api="chat", model="a", stream=False, metadata={})
    assert plan is not None
    assert plan.cells is None


def test_a_plain_retry_has_no_cells() -> None:
    """Whoever asks for none of this has none of it."""
    rule = {"name": "r", "actions": ["retry"], "retry": {"fallbacks": ["b"]}}
    policy = load_policy({"version": 1, "rules": [rule]})
    plan = Plan.of(policy, api="chat", model="a", stream=False, metadata={})
    assert plan is not None
    assert plan.cells is None

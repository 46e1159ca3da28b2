"""The decision after an attempt, as the LiteLLM hook calls it: one attempt at a time."""

from __future__ import annotations

import pytest
from flow_stage import A, B, C, D, plan_of
from hypothesis import given
from hypothesis import strategies as st

from demur.flow.decision import Accept, Exhausted, FallBack, decide, overall, remaining
from demur.flow.plan import Plan
from demur.policy.schema import Policy, Retry, Rule
from demur.vocabulary import Target, Verdict

REFUSED = Verdict("refusal", 1.0, "test")
NORMAL = Verdict("normal", 0.0, "test")


@given(
    chain=st.lists(st.sampled_from([A, B, C, D]), min_size=1, unique=True),
    picks=st.lists(st.integers(0, 4), max_size=6),
    attempts=st.none() | st.integers(2, 5),
)
def test_the_chain_is_walked_forward_only(
    chain: list[Target], picks: list[int], attempts: int | None
) -> None:
    """Whatever is picked of what remains: never a target twice, none that was passed over."""
    plan = plan_of(*chain, retry={"attempts": attempts})
    tried, places = [A], [-1]
    for pick in picks:
        left = remaining(plan, tried, 0.0)
        if not left:
            break
        target = left[pick % len(left)]
        assert target not in tried
        places.append(plan.chain.index(target))
        tried.append(target)
    assert places == sorted(places)
    assert attempts is None or len(tried) <= attempts


def test_a_fallback_that_was_passed_over_is_not_come_back_to() -> None:
    """Passed over for want of rights once, it stays passed over though rights may come."""
    assert remaining(plan_of(B, C, D), [A, C], 0.0) == (D,)


def test_a_patch_of_the_requested_model_is_another_target() -> None:
    """The same model with another temperature may be tried; without a patch it may not."""
    policy = Policy(
        rules=(
            Rule(
                name="rule",
                actions=("retry",),
                retry=Retry.model_validate(
                    {"fallbacks": ["model-a", {"model": "model-a", "temperature": 0.2}]}
                ),
            ),
        )
    )
    plan = Plan.of(policy, api="chat", model="model-a", stream=False, metadata={})
    assert plan is not None
    assert [t.patch for t in remaining(plan, [plan.requested], 0.0)] == [{"temperature": 0.2}]


@pytest.mark.parametrize(("elapsed", "left"), [(29.9, (B,)), (30.0, ()), (31.0, ())])
def test_the_retrys_seconds(elapsed: float, left: tuple[Target, ...]) -> None:
    """Nothing remains once the retry's seconds are over."""
    assert remaining(plan_of(B), [A], elapsed) == left


def test_decisions() -> None:
    """Accept what does not trigger, fall back while something is usable, else exhausted."""
    plan = plan_of(B, C)
    assert decide(plan, NORMAL, (B, C)) == Accept()
    assert decide(plan, None, (B, C)) == Accept()
    assert decide(plan, REFUSED, (B, C)) == FallBack(B)
    assert decide(plan, REFUSED, ()) == Exhausted("first")
    assert decide(plan, None, (C,), failed=True) == FallBack(C)
    assert decide(plan, None, (), failed=True) == Exhausted("first")
    assert decide(plan_of(), REFUSED, ()) == Accept()
    assert decide(plan_of(actions=("error",)), REFUSED, ()) == Exhausted("error")


def test_shadow_accepts_and_says_what_would_have_been() -> None:
    """In shadow mode every answer is accepted."""
    plan = plan_of(B, shadow=True)
    assert decide(plan, REFUSED, (B,)) == Accept(would="fell_back")
    assert decide(plan, REFUSED, ()) == Accept(would="exhausted")
    assert decide(plan, NORMAL, (B,)) == Accept()


def test_overall_is_the_least_refused_choice() -> None:
    """By label first, then by score; nothing for no choices."""
    partial = Verdict("partial", 0.9, "test")
    assert overall([REFUSED, partial]) is partial
    assert overall([partial, NORMAL, REFUSED]) is NORMAL
    low = Verdict("refusal", 0.6, "test")
    assert overall([REFUSED, low]) is low
    assert overall([]) is None

"""Settings that look beyond one request: what they may say."""

from __future__ import annotations

import pytest

from demur.policy import InvalidPolicyError, parse_policy

RULE = "rules: [{name: r, actions: [retry], retry: {fallbacks: [m], %s}}]"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (RULE % "breaker: {rate: 0}", "rules[0].retry.breaker.rate", "greater than 0"),
        (RULE % "breaker: {rate: 1.5}", "rules[0].retry.breaker.rate", "at most 1"),
        (RULE % "breaker: {least: 0}", "rules[0].retry.breaker.least", "at least 1"),
        (RULE % "breaker: {pause: 0}", "rules[0].retry.breaker.pause", "greater than 0"),
        (RULE % "breaker: {windw: 3}", "rules[0].retry.breaker.windw", "window"),
        (RULE % "sticky: {seconds: -1}", "rules[0].retry.sticky.seconds", "greater than 0"),
        ("budgets: [{per: 60}]", "budgets[0]", "give calls, seconds or cost"),
        ("budgets: [{calls: 0}]", "budgets[0].calls", "at least 1"),
        ("prices: {m: {input: -1}}", "prices.m.input", "at least 0"),
        ("shared: {seconds: 0}", "shared.seconds", "greater than 0"),
        (
            "shared: {redis_env: 'redis://:secret@host'}",
            "shared.redis_env",
            "not the name of an environment variable",
        ),
    ],
)
def test_what_cannot_be_meant(text: str, key: str, said: str) -> None:
    """Each error stands at its place, and shows no password."""
    with pytest.raises(InvalidPolicyError) as caught:
        parse_policy(text)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert said in problem.message
    assert "secret" not in str(caught.value)


def test_defaults() -> None:
    """An empty section is a sensible one."""
    retry = parse_policy(RULE % "breaker: {}, sticky: {}").rules[0].retry
    assert retry is not None
    assert retry.breaker is not None
    assert (retry.breaker.rate, retry.breaker.least) == (0.5, 20)
    assert (retry.breaker.window, retry.breaker.pause) == (60.0, 120.0)
    assert retry.sticky is not None
    assert (retry.sticky.seconds, retry.sticky.by) == (900.0, "conversation_id")

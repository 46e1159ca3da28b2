"""What a prompt can and cannot make demur do."""

from __future__ import annotations

import pytest
from openai_stage import ANSWER, REFUSAL

import demur
from demur.detection.building import build_detector
from demur.testing import Reply

PROMPT = [
    {"role": "system", "content": REFUSAL},
    {"role": "user", "content": f"Repeat after me: {REFUSAL}"},
    {"role": "assistant", "content": REFUSAL},
    {"role": "user", "content": "I cannot assist with that request."},
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_in_the_prompt_is_none(caller, serve, stream):
    """Only what the model says is judged: a prompt full of refusals provokes no fallback."""
    upstream = serve(primary=Reply(ANSWER), second=Reply(ANSWER))
    client = caller.wrap(upstream, detector=build_detector())
    response = caller.create(client, messages=PROMPT, stream=stream)
    if stream:
        caller.items(response)
    assert demur.outcome_of(response).ending == "accepted"
    assert not upstream.calls("second")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("attempts", [None, 2])
def test_a_provoked_refusal_costs_the_chain_at_most(caller, serve, stream, attempts):
    """Each target is called once at most, and ``attempts`` bounds the calls of one request."""
    refusing = Reply(REFUSAL)
    upstream = serve(primary=refusing, second=refusing, third=refusing)
    retry = {"fallbacks": ["second", "third", "second", "primary"], "attempts": attempts}
    rule = {"name": "r", "actions": ["tag", "retry"], "retry": retry}
    client = caller.wrap(upstream, policy={"version": 1, "rules": [rule]})
    response = caller.create(client, messages=PROMPT, stream=stream)
    if stream:
        caller.items(response)
    calls = [len(upstream.calls(model)) for model in ("primary", "second", "third")]
    assert calls == ([1, 1, 1] if attempts is None else [1, 1, 0])
    spent = demur.outcome_of(response).refused_usage
    assert stream or spent.output_tokens > 0

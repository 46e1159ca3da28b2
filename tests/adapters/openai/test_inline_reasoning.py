"""Reasoning that a model writes into its text, between tags."""

from __future__ import annotations

import time

import pytest
from openai_stage import ANSWER, REFUSAL, retrying

import demur
from demur.testing import Reply

THOUGHT = "The user asks for something that I would rather not do. Let me think about it. " * 4


@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning", "Think"])
def test_whole_and_streamed_are_decided_alike(caller, serve, tag):
    """A refusal behind reasoning is replaced, whichever tag that stands in, and however it came."""
    said = f"<{tag}>{THOUGHT}</{tag}>\n\n{REFUSAL}"
    upstream = serve(primary=Reply(said), second=Reply(ANSWER))
    client = caller.wrap(upstream, detector=None)
    assert caller.create(client).choices[0].message.content == ANSWER
    assert caller.text(caller.create(client, stream=True)) == ANSWER


@pytest.mark.parametrize(
    "reply",
    [Reply(ANSWER, reasoning=THOUGHT, delay=0.02), Reply(f"<think>{THOUGHT}</think>", delay=0.02)],
    ids=["field", "inline"],
)
def test_reasoning_may_be_released(caller, serve, reply):
    """``hold_back.reasoning: release`` shows reasoning as it comes, wherever it comes."""
    upstream = serve(primary=reply, second=Reply(ANSWER))
    policy = retrying()
    policy["rules"][0]["stream"] = {"hold_back": {"reasoning": "release"}}
    client = caller.wrap(upstream, policy=policy)
    start = time.monotonic()
    stream = caller.create(client, stream=True)
    held = time.monotonic() - start
    caller.items(stream)
    assert held < (time.monotonic() - start) / 2
    assert demur.outcome_of(stream).ending == "accepted"

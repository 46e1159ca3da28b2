"""Replay of streams: what became of them under a policy, the same policy says again."""

from __future__ import annotations

from typing import Any

import pytest

from demur.drivers.blocking import BlockingStream
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.policy import Policy, load_policy
from demur.report.experience import Experience
from demur.report.replaying import Replayed, replay
from demur.report.restoring import Entry
from demur.testing import PhraseDetector, Reply, ScriptedModel
from demur.vocabulary import Outcome

REFUSAL = "I'm sorry, but I can't help with that. Please ask me about something else."


def policy(**more: Any) -> Policy:
    retry = {"actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["second"]}}
    audit = {"path": "unused.jsonl", "content": "full"}
    return load_policy({"rules": [{"name": "r", **retry}], "audit": audit, **more})


def streamed(used: Policy, reply: Reply) -> Outcome:
    """The record of a stream that was read as far as it came."""
    model = ScriptedModel({"primary": reply, "second": Reply("Sure. Take the red one.")})
    plan = Plan.of(used, api="chat", model="primary", stream=True, metadata={}, id="1")
    assert plan is not None
    stream = BlockingStream(stream_flow(plan), model.blocking(), PhraseDetector())
    try:
        while stream.advance() is not None:
            pass
    except ConnectionResetError:
        stream.close()
    (record,) = model.finished
    return record


def again(old: Outcome, used: Policy) -> tuple[Replayed, ...]:
    """Replayed by the scores on record, and judged anew."""
    experience = Experience.of([old])
    entry = Entry(old, "full")
    return replay(entry, used, experience), replay(entry, used, experience, PhraseDetector())


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_a_stream_that_broke_is_what_it_was(mode: str, chunks: int) -> None:
    """Nobody judged it, so nobody does now: not what little it said, or nothing at all."""
    used = policy(mode=mode)
    old = streamed(used, Reply(REFUSAL, reset_after=chunks))
    assert old.attempts[0].error == "ConnectionResetError"
    for found in again(old, used):
        assert not found.differs
        assert not found.guessed

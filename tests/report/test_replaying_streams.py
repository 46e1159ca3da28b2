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
from demur.report.restoring import Entry, restored
from demur.sinks import to_record
from demur.testing import PhraseDetector, Reply, ScriptedModel
from demur.vocabulary import Evidence, Outcome, Verdict

REFUSAL = "I'm sorry, but I can't help with that. Please ask me about something else."


class LateDetector(PhraseDetector):
    """Takes for a refusal, too, what ends in one; no beginning can show it."""

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        if final and evidence.text.endswith(REFUSAL):
            return Verdict("refusal", 0.9, self.name)
        return super().classify(evidence, final=final)


def policy(**more: Any) -> Policy:
    retry = {"actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["second"]}}
    audit = {"path": "unused.jsonl", "content": "full"}
    return load_policy({"rules": [{"name": "r", **retry}], "audit": audit, **more})


def streamed(used: Policy, reply: Reply) -> Outcome:
    """The record of a stream that was read as far as it came."""
    model = ScriptedModel({"primary": reply, "second": Reply("Sure. Take the red one.")})
    plan = Plan.of(used, api="chat", model="primary", stream=True, metadata={}, id="1")
    assert plan is not None
    stream = BlockingStream(stream_flow(plan), model.blocking(), LateDetector())
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
    return replay(entry, used, experience), replay(entry, used, experience, LateDetector())


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


LATE = "Sure. First you take the red one, and then the blue one. "


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_what_was_seen_too_late_is_seen_too_late_again(mode: str) -> None:
    """A refusal after a normal opening is recorded, not replaced: no replay may promise more."""
    used = policy(mode=mode)
    old = streamed(used, Reply(LATE * 4 + REFUSAL))
    assert (old.ending, old.would, old.late) == ("accepted", None, True)
    assert old.verdict is not None
    assert old.verdict.label == "refusal"
    assert restored(to_record(old), "here").outcome.late
    for found in (*again(old, used), *again(old, policy())):
        assert not found.differs
        assert not found.guessed


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_what_was_seen_in_time_is_not_late(mode: str) -> None:
    """Nor is what a rule that never acts has judged: nobody knows what a hold-back had found."""
    assert not streamed(policy(mode=mode), Reply(REFUSAL)).late
    tags = load_policy({"rules": [{"name": "r"}], "mode": mode})
    old = streamed(tags, Reply(LATE * 4 + REFUSAL))
    assert not old.late
    assert all(found.differs for found in again(old, policy()))

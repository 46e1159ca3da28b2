"""Plans and ways to run them through both drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from demur.detection import Detector
from demur.drivers import awaiting, blocking
from demur.flow.completion import completion_flow
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.policy.schema import HoldBack, Retry, Rule, StreamSettings
from demur.stores import Store
from demur.testing import PhraseDetector, ScriptedModel
from demur.vocabulary import Outcome, Target

REFUSAL = "I'm sorry, but I can't help with that request, not now and not later."
NORMAL = "Sure, here is how you do it: take a large pan and put in the butter first."


def plan_of(
    *chain: str,
    hold: Mapping[str, Any] | None = None,
    retry: Mapping[str, Any] | None = None,
    at_cap: str = "release",
    **plan: Any,
) -> Plan:
    """A plan for a request to ``a`` that retries on ``chain``, if there is one."""
    rule = Rule(
        name="rule",
        actions=("tag", "log", "retry") if chain else ("tag", "log"),
        retry=Retry(fallbacks=chain, **(retry or {})) if chain else None,
        stream=StreamSettings(hold_back=HoldBack(**(hold or {})), at_cap=at_cap),
    )
    targets = tuple(Target(name, name) for name in chain)
    return Plan("chat", Target("a", "a"), rule, targets, **plan)


@dataclass(frozen=True)
class Ran:
    """What a consumer saw of a run. Native chunks are compared without their time stamp."""

    got: list[Any]
    error: tuple[type, str] | None
    records: list[Outcome]


def timeless(outcome: Outcome) -> Outcome:
    return replace(
        outcome,
        attempts=tuple(replace(attempt, seconds=0.0) for attempt in outcome.attempts),
        added_seconds=0.0,
        detection_seconds=0.0,
        held_seconds=None if outcome.held_seconds is None else 0.0,
    )


def ran(model: ScriptedModel, got: list[Any], error: Exception | None) -> Ran:
    plain = [{**native, "created": 0} if isinstance(native, dict) else native for native in got]
    told = None if error is None else (type(error), str(error))
    return Ran(plain, told, [timeless(record) for record in model.records])


def run_blocking(
    model: ScriptedModel,
    plan: Plan,
    detector: Detector | None = None,
    *,
    leave: int = -1,
    store: Store | None = None,
) -> Ran:
    """Read a stream through the blocking driver, leaving after ``leave`` releases."""
    stream = blocking.BlockingStream(
        stream_flow(plan), model.blocking(), detector or PhraseDetector(), store
    )
    got: list[Any] = []
    error = None
    try:
        while leave != 0 and (chunks := stream.advance()) is not None:
            got += [chunk.native for chunk in chunks]
            leave -= 1
    except Exception as raised:  # noqa: BLE001 - what is raised is compared
        error = raised
    stream.close()
    return ran(model, got, error)


async def run_awaiting(
    model: ScriptedModel,
    plan: Plan,
    detector: Detector | None = None,
    *,
    leave: int = -1,
    store: Store | None = None,
) -> Ran:
    """The same through the awaiting driver."""
    stream = awaiting.AwaitingStream(
        stream_flow(plan), model.awaiting(), detector or PhraseDetector(), store
    )
    got: list[Any] = []
    error = None
    try:
        while leave != 0 and (chunks := await stream.advance()) is not None:
            got += [chunk.native for chunk in chunks]
            leave -= 1
    except Exception as raised:  # noqa: BLE001 - what is raised is compared
        error = raised
    await stream.close()
    return ran(model, got, error)


def complete_blocking(
    model: ScriptedModel,
    plan: Plan,
    detector: Detector | None = None,
    store: Store | None = None,
) -> Ran:
    try:
        served = blocking.run_completion(
            completion_flow(plan), model.blocking(), detector or PhraseDetector(), store
        )
    except Exception as raised:  # noqa: BLE001 - what is raised is compared
        return ran(model, [], raised)
    return ran(model, [served.completion.native], None)


def complete_awaiting(
    model: ScriptedModel,
    plan: Plan,
    detector: Detector | None = None,
    store: Store | None = None,
) -> Ran:
    async def run() -> Ran:
        try:
            served = await awaiting.run_completion(
                completion_flow(plan), model.awaiting(), detector or PhraseDetector(), store
            )
        except Exception as raised:  # noqa: BLE001 - what is raised is compared
            return ran(model, [], raised)
        return ran(model, [served.completion.native], None)

    return asyncio.run(run())

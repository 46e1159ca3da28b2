"""What happens to request ``number``: a pure function of the seed, so that both sides know it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from random import Random

from demur.testing import Reply, ToolCall

MODELS = "abc"

# The longer the list, the likelier what stands in it twice.
SAYS = ("answer", "near", "refusal", "refusal", "refusal", "field", "filter", "tool", "empty")
DELIVERS = frozenset({"answer", "near", "tool"})
STEADY = ("none", "none", "none", "none", "none", "none", "slow", "drip")
BROKEN = ("429", "500", "503", "hangup", "cut", "reset", "half", "malformed", "error", "no_done")
FAULTS = (*STEADY, *BROKEN, "stall")

DETECTORS = {
    ("first", "phrase"): 6, ("patient", "phrase"): 6, ("last", "phrase"): 2,
    ("error", "phrase"): 2, ("shadow", "phrase"): 1, ("tag", "phrase"): 1, ("timed", "phrase"): 3,
    ("capped", "phrase"): 2, ("first", "threaded"): 2, ("patient", "embedded"): 3,
    ("first", "raising"): 1, ("first", "hanging"): 1, ("first", "lying"): 1,
    ("refuse", "raising"): 1, ("first", "flaky"): 2,
}  # fmt: skip
"""Pairs of a policy and a detector, and how often they come."""

PATIENCE = 0.4
"""Seconds: the request's own timeout where the caller will not wait."""


@dataclass(frozen=True, slots=True)
class Act:
    """What one model does. ``late``: the fault comes in the middle, not before any text."""

    says: str = "answer"
    fault: str = "none"
    late: bool = False
    zipped: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One request. ``consumer``: reads ``all``, or leaves by ``close`` or ``drop`` after ``items``,
    by ``cancel`` after ``seconds``, by its ``timeout``, or another task or thread is the
    ``closer``.
    """

    number: int
    acts: tuple[Act, ...]
    policy: str = "first"
    detector: str = "phrase"
    api: str = "chat"
    stream: bool = True
    form: str = "create"
    blocking: bool = False
    consumer: str = "all"
    items: int = 0
    seconds: float = 0.0

    @property
    def model(self) -> str:
        return f"a.{self.number}"


def scenario(seed: int, number: int) -> Scenario:
    """The scenario of a request; negative numbers are those of ``calibration``."""
    if number < 0:
        return calibration()[-number - 1]
    random = Random(f"{seed}/{number}")
    policy, detector = random.choices(list(DETECTORS), list(DETECTORS.values()))[0]
    stream, blocking = random.random() < 0.6, random.random() < 0.3
    made = Scenario(
        number,
        tuple(_act(random, stream) for _ in range(1 if policy == "tag" else 3)),
        policy,
        detector,
        random.choices(["chat", "responses"], [4, 1])[0],
        stream,
        random.choices(["create", "raw", "streamed"], [7, 1, 2])[0],
        blocking,
        items=random.randrange(1, 12),
        seconds=random.uniform(0.0, 0.5),
    )
    return replace(made, consumer=_consumer(random, made))


def _act(random: Random, stream: bool) -> Act:
    group = random.choices([STEADY, BROKEN, ("stall",)], [70, 27, 3])[0]
    fault = random.choice(group)
    if fault in ("error", "no_done") and not stream:
        fault = "malformed"
    says, late = random.choice(SAYS), random.random() < 0.6
    return Act(says, fault, late, zipped=fault in STEADY and random.random() < 0.2)


def _consumer(random: Random, made: Scenario) -> str:
    stalls = [act for act in made.acts if act.fault == "stall"]
    if not stalls:
        ways = ["all"] * 14 + (["close", "drop"] if made.stream else [])
        return random.choice(ways if made.blocking else [*ways, "cancel"])
    first = made.acts[0]
    visible = first.fault == "stall" and first.late and first.says in DELIVERS
    if visible and made.stream and made.form == "create" and made.detector == "phrase":
        return "closer"
    return random.choice(["timeout"] if made.blocking else ["timeout", "cancel"])


@lru_cache(maxsize=1)
def calibration() -> tuple[Scenario, ...]:
    """Every way to break and every way to read: plain clients show what comes of it."""
    ways = product(BROKEN, (False, True), ("chat", "responses"), (False, True),
                   ("create", "raw", "streamed"), (False, True))  # fmt: skip
    return tuple(
        Scenario(
            -1 - index, (Act(fault=fault, late=late),), "tag", "phrase", api, stream, form, blocking
        )
        for index, (fault, late, api, stream, form, blocking) in enumerate(ways)
    )


def words(model: str, number: int) -> str:
    """Twenty watermarks of one model's answer to one request."""
    return " ".join(f"{model}{number}.{i}" for i in range(20))


def text_of(act: Act, model: str, number: int) -> str:
    """All that the act would have its caller see."""
    said = words(model, number)
    match act.says:
        case "answer":
            return f"Sure ☂ {said}"
        case "near":
            return f"I'm sure: {said}"
        case "refusal":
            return f"I\u2019m sorry, {said}"
        case "field":
            return f"I'm sorry: {said}"
        case "tool":
            return json.dumps({"of": said})
    return ""


def reply_of(act: Act, model: str, number: int) -> Reply:
    text = text_of(act, model, number)
    shared = {"chunk_size": 8, "omit_done": act.fault == "no_done"}
    match act.says:
        case "field":
            return Reply(refusal=text, **shared)
        case "filter":
            return Reply(finish_reason="content_filter", **shared)
        case "tool":
            return Reply(tool_calls=(ToolCall("look", text),), **shared)
    return Reply(text, **shared)

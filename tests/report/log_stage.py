"""A made-up week of traffic, written as demur writes it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

from demur.sinks import to_record
from demur.sinks.lines import LinesWriter
from demur.vocabulary import Attempt, Kind, Outcome, Usage, Verdict

START = 1_780_272_000.0  # 2026-06-01, a Monday
WEEK = 7 * 86_400.0
MODELS = {"primary-large": 0.5, "primary-small": 0.3, "coder": 0.2}
RATES = {"primary-large": 0.03, "primary-small": 0.06, "coder": 0.015}
KINDS: tuple[Kind, ...] = ("policy", "policy", "policy", "capability", "scope", "filter")
FALLBACKS = ("second", "local-llama")


def week(requests: int, *, seed: int = 7) -> Iterator[Outcome]:
    """Outcomes in the order of time. From Thursday on ``primary-small`` refuses far more."""
    dice = random.Random(seed)
    for number in range(requests):
        time = START + WEEK * number / requests
        model = dice.choices(list(MODELS), list(MODELS.values()))[0]
        rate = RATES[model] * (1 + 0.3 * math.sin(time / 86_400 * 2 * math.pi))
        if model == "primary-small" and time > START + 3.4 * 86_400:
            rate *= 3.2
        yield _outcome(dice, number, time, model, rate)


def _outcome(dice: random.Random, number: int, time: float, model: str, rate: float) -> Outcome:
    stream = dice.random() < 0.6
    first = _attempt(dice, model, dice.random() < rate)
    assert first.verdict is not None
    rule = "coding" if model == "coder" else "support-bot" if dice.random() < 0.6 else "everyone"
    common = {
        "api": "chat",
        "requested_model": model,
        "stream": stream,
        "rule": rule,
        "policy": "5f1e0c9ab001",
        "id": f"req-{number:06}",
        "time": time,
        "detection_seconds": dice.uniform(0.0001, 0.0006),
    }
    held = dice.lognormvariate(-2.2, 0.6) if stream else None
    if first.verdict.label != "refusal" or rule == "everyone":
        return Outcome(
            **common,  # type: ignore[arg-type]
            ending="accepted",
            attempts=(first,),
            served=0,
            added_seconds=(held or 0.0) * 0.2 + 0.0005,
            held_seconds=held,
        )
    attempts = [_refused(first)]
    for fallback in FALLBACKS:
        attempt = _attempt(dice, fallback, dice.random() < 0.22)
        assert attempt.verdict is not None
        if attempt.verdict.label != "refusal":
            attempts.append(attempt)
            break
        attempts.append(_refused(attempt))
    answered = attempts[-1].outcome == "accepted"
    return Outcome(
        **common,  # type: ignore[arg-type]
        ending="fell_back" if answered else "exhausted",
        attempts=tuple(attempts),
        served=len(attempts) - 1 if answered else 0,
        added_seconds=sum(a.seconds for a in attempts[: -1 if answered else None]),
        held_seconds=None if held is None else held + 0.4,
    )


def _attempt(dice: random.Random, model: str, refuses: bool) -> Attempt:
    score = dice.betavariate(9, 1.2) if refuses else dice.betavariate(0.6, 14)
    refuses = score >= 0.5
    partial = not refuses and score > 0.42
    label = "refusal" if refuses else "partial" if partial else "normal"
    kind = dice.choice(KINDS) if refuses else None
    verdict = Verdict(label, score, "signals" if kind == "filter" else "embedded", 0.5, kind)  # type: ignore[arg-type]
    tokens = dice.randint(15, 40) if refuses else dice.randint(80, 900)
    seconds = dice.lognormvariate(-0.4, 0.5) * (0.4 if refuses else 1.0)
    usage = Usage(dice.randint(50, 1500), tokens)
    return Attempt(model, model, "accepted", verdict, f"{model}-2026", usage, seconds)


def _refused(attempt: Attempt) -> Attempt:
    return Attempt(
        attempt.target,
        attempt.model,
        "refused",
        attempt.verdict,
        attempt.served_model,
        attempt.usage,
        attempt.seconds,
    )


def write_log(path: Path, requests: int, *, seed: int = 7) -> Path:
    writer = LinesWriter(path, max_bytes=10**12, keep=1)
    batch = []
    for outcome in week(requests, seed=seed):
        batch.append(to_record(outcome))
        if len(batch) == 1000:
            writer(batch)
            batch.clear()
    writer(batch)
    return path

"""Asking for verdicts: the part of a flow that completions and streams share."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..vocabulary import Evidence, Target, Verdict
from .consulting import reserved, usable_of
from .decision import Decision, decide, overall, remaining, triggers, unjudged
from .effects import Answer, Classify, Effect, Failed, Judged
from .journal import Journal


def judge(
    journal: Journal, choices: Sequence[Evidence]
) -> Generator[Effect, Answer, Verdict | None]:
    """The verdict on a response with these choices; ``None`` where there is nothing to judge."""
    verdicts: list[Verdict] = []
    for evidence in choices:
        verdict = yield from judge_one(journal, evidence, final=True)
        verdicts.append(verdict)
    return overall(verdicts)


def judge_one(
    journal: Journal, evidence: Evidence, *, final: bool
) -> Generator[Effect, Answer, Verdict]:
    answer = yield Classify(evidence, final)
    assert isinstance(answer, Judged | Failed)
    journal.detection += journal.spend(answer.seconds)
    if isinstance(answer, Failed):
        return unjudged(journal.plan, type(answer.error).__name__)
    return answer.verdict


def next_step(
    journal: Journal, verdict: Verdict | None, *, failed: bool = False
) -> Generator[Effect, Answer, Decision]:
    """Decide about the attempt just made, asking which targets are usable only if it matters."""
    plan = journal.plan
    usable: tuple[Target, ...] = ()
    limited = False
    if failed or triggers(plan, verdict):
        usable = remaining(
            plan,
            journal.tried,
            journal.elapsed,
            moved=journal.moved,
            stand_in=journal.start.stand_in,
        )
        usable = yield from usable_of(journal, usable)
        if usable and not (yield from reserved(journal)):
            journal.limited = "budget"
            usable, limited = (), journal.at_first
    return decide(plan, verdict, usable, failed=failed, limited=limited)


def time_left(journal: Journal) -> float | None:
    """Seconds a fallback may still take; ``None`` for the first call and where none is set."""
    retry = journal.plan.rule.retry
    if not journal.attempts or retry is None or retry.seconds is None:
        return None
    return max(0.0, retry.seconds - journal.elapsed)

"""One request for a whole response, all its attempts.

The caller's own call goes first, untouched. If it raises, so does the flow, with the same
exception: errors are the gateway's business, refusals are ours. If it is refused and a fallback
answers, that one is served; if all refuse or fail, what the policy's ``exhausted`` says. A fallback
that answers what cannot be read has failed: nobody can say that it is better than the refusal. So
has one that still runs in the background, unless the request started there.

A breaker or a conversation's past may let a request start at a fallback. Its own call is then made
only if nobody else answers: last, and untouched all the same.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from ..errors import RefusedError, UnreadableError
from ..vocabulary import AttemptOutcome, Completion, Outcome, Target, Verdict
from .consulting import begin, leave
from .decision import Accept, Exhausted, FallBack
from .effects import Answer, Called, CallModel, Effect, Emit, Failed
from .journal import Journal
from .judging import judge, next_step, time_left
from .plan import Plan
from .standing import Start


@dataclass(frozen=True, slots=True)
class Served:
    """What the caller gets, and the record of how it came about."""

    completion: Completion
    outcome: Outcome


@dataclass(slots=True)
class _Answered:
    completion: Completion
    index: int
    seconds: float


def completion_flow(plan: Plan, start: Start | None = None) -> Generator[Effect, Answer, Served]:
    """Yields effects, is sent answers, returns what to serve.

    ``start`` is where the request starts, if that has been found out already.
    Raises the first call's own exception if that fails, ``RefusedError`` if the policy asks for it.
    What is thrown in, a cancellation for one, comes back out once the record has been emitted.
    """
    journal = Journal(plan)
    try:
        if start is None:
            start = yield from begin(journal)
        served = yield from _attempts(journal, start)
    except GeneratorExit:
        raise
    except BaseException:
        outcome = journal.outcome(None)
        yield Emit(outcome)
        yield from leave(journal, outcome)
        raise
    journal.own = served.seconds
    outcome = journal.outcome(served.index)
    yield Emit(outcome)
    yield from leave(journal, outcome)
    return Served(served.completion, outcome)


def _attempts(journal: Journal, start: Start) -> Generator[Effect, Answer, _Answered]:
    """Try targets until one can be served."""
    answered: list[_Answered] = []
    target = journal.start_at(start)
    while True:
        decision = yield from _attempt(journal, target, answered)
        if isinstance(decision, FallBack):
            target = decision.target
            continue
        if isinstance(decision, Accept):
            journal.accept(decision)
            return answered[-1]
        if not answered:
            target = journal.plan.requested
            continue
        journal.ending = "exhausted"
        if decision.serve == "error":
            raise refused_error(journal.outcome(None))
        return answered[0 if decision.serve == "first" else -1]


def _attempt(
    journal: Journal, target: Target, answered: list[_Answered]
) -> Generator[Effect, Answer, Accept | FallBack | Exhausted]:
    number = journal.number_of(target)
    answer = yield CallModel(target, number, time_left(journal) if number else None)
    journal.tried.append(target)
    if isinstance(answer, Failed):
        journal.add(target, "failed", journal.spend(answer.seconds), error=answer.error)
        if not number:
            journal.ending = "failed"
            raise answer.error
        return (yield from next_step(journal, None, failed=True))
    assert isinstance(answer, Called)
    completion, seconds = answer.completion, journal.spend(answer.seconds)
    # A refusal in hand is not given for what nobody knows yet.
    readable = completion.choices or (completion.running and not answered)
    if number and not readable:
        journal.add(target, "failed", seconds, completion=completion, error=UnreadableError())
        return (yield from next_step(journal, None, failed=True))
    try:
        verdict = yield from judge(journal, completion.choices)
        decision = yield from next_step(journal, verdict)
    except BaseException:
        journal.add(target, "abandoned", seconds, completion=completion)
        raise
    outcome: AttemptOutcome = "accepted" if isinstance(decision, Accept) else "refused"
    index = journal.add(target, outcome, seconds, verdict=verdict, completion=completion)
    answered.append(_Answered(completion, index, seconds))
    return decision


def refused_error(outcome: Outcome) -> RefusedError:
    """The error for a request that the policy wants to fail: models and labels, never text."""
    told = "; ".join(f"{a.model}: {_told(a.verdict, a.error)}" for a in outcome.attempts)
    return RefusedError(f"refused, and rule {outcome.rule!r} asks for an error ({told})", outcome)


def _told(verdict: Verdict | None, error: str | None) -> str:
    if verdict is None:
        return error or "not judged"
    return f"{verdict.label}, score {verdict.score:.2f} by {verdict.stage}"

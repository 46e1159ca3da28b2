"""One request for a whole response, all its attempts.

The caller's own call goes first, untouched. If it raises, so does the flow, with the same
exception: errors are the gateway's business, refusals are ours. If it is refused and a fallback
answers, that one is served; if all refuse or fail, what the policy's ``exhausted`` says.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from ..errors import RefusedError
from ..vocabulary import AttemptOutcome, Completion, Ending, Outcome, Target, Verdict
from .decision import Accept, Exhausted, FallBack
from .effects import Answer, Called, CallModel, Effect, Emit, Failed
from .journal import Journal
from .judging import judge, next_step, time_left
from .plan import Plan


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


def completion_flow(plan: Plan) -> Generator[Effect, Answer, Served]:
    """Yields effects, is sent answers, returns what to serve.

    Raises the first call's own exception if that fails, ``RefusedError`` if the policy asks for it.
    """
    journal = Journal(plan)
    answered: list[_Answered] = []
    target = plan.requested
    while True:
        decision = yield from _attempt(journal, target, answered)
        if isinstance(decision, FallBack):
            target = decision.target
            continue
        if isinstance(decision, Accept):
            journal.would = decision.would
            return (yield from _serve(journal, answered[-1], _ending(journal)))
        if decision.serve == "error":
            raise (yield from _refuse(journal))
        kept = answered[0 if decision.serve == "first" else -1]
        return (yield from _serve(journal, kept, "exhausted"))


def _attempt(
    journal: Journal, target: Target, answered: list[_Answered]
) -> Generator[Effect, Answer, Accept | FallBack | Exhausted]:
    answer = yield CallModel(target, len(journal.tried), time_left(journal))
    journal.tried.append(target)
    if isinstance(answer, Failed):
        journal.add(target, "failed", journal.spend(answer.seconds), error=answer.error)
        if not answered:
            yield Emit(journal.outcome("failed", None))
            raise answer.error
        return (yield from next_step(journal, None, failed=True))
    assert isinstance(answer, Called)
    seconds = journal.spend(answer.seconds)
    verdict = yield from judge(journal, answer.completion.choices)
    decision = yield from next_step(journal, verdict)
    outcome: AttemptOutcome = "accepted" if isinstance(decision, Accept) else "refused"
    index = journal.add(target, outcome, seconds, verdict=verdict, completion=answer.completion)
    answered.append(_Answered(answer.completion, index, seconds))
    return decision


def _serve(
    journal: Journal, answered: _Answered, ending: Ending
) -> Generator[Effect, Answer, Served]:
    journal.own = answered.seconds
    outcome = journal.outcome(ending, answered.index)
    yield Emit(outcome)
    return Served(answered.completion, outcome)


def _refuse(journal: Journal) -> Generator[Effect, Answer, RefusedError]:
    outcome = journal.outcome("exhausted", None)
    yield Emit(outcome)
    return refused_error(outcome)


def _ending(journal: Journal) -> Ending:
    return "accepted" if len(journal.tried) == 1 else "fell_back"


def refused_error(outcome: Outcome) -> RefusedError:
    """The error for a request that the policy wants to fail: models and labels, never text."""
    told = "; ".join(f"{a.model}: {_told(a.verdict, a.error)}" for a in outcome.attempts)
    return RefusedError(f"refused, and rule {outcome.rule!r} asks for an error ({told})", outcome)


def _told(verdict: Verdict | None, error: str | None) -> str:
    if verdict is None:
        return error or "not judged"
    return f"{verdict.label}, score {verdict.score:.2f} by {verdict.stage}"

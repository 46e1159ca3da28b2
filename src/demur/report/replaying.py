"""What another policy would have done: the same flow, answered from the log.

Nothing is decided here. Each request runs through ``completion_flow`` under the new policy; calls
are answered by the attempts on record, verdicts by the scores on record or, where the log holds
what was judged, by the new policy's detector. Breakers and budgets see the requests at their times.
What was seen of a stream only after its release is taken to be seen too late again.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache

from ..detection import Detector
from ..detection.embedded import STAGE, EmbeddedDetector
from ..detection.signals import SignalsDetector
from ..errors import RefusedError
from ..flow.completion import Served, completion_flow
from ..flow.decision import unjudged
from ..flow.effects import (
    Answer,
    Called,
    CallModel,
    Classify,
    Consult,
    Effect,
    Emit,
    Failed,
    FindUsable,
    Judged,
    Usable,
)
from ..flow.plan import Plan
from ..policy.schema import Policy, Thresholds
from ..stores.memory import MemoryStore
from ..vocabulary import Attempt, Completion, Evidence, Label, Outcome, Target, Verdict
from .experience import Experience
from .restoring import Entry


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request as it went and as it would have gone.

    ``new`` is ``None`` where no rule of the new policy matches: nothing would have been judged.
    ``guessed`` says that a call had to be made up that nobody made.
    """

    old: Outcome
    new: Outcome | None
    guessed: bool = False

    @property
    def differs(self) -> bool:
        return self.new is None or _course(self.old) != _course(self.new)


class Past:
    """The state that replayed requests share, at the time of the one at hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = MemoryStore(clock=lambda: self.now)


def replay(
    entry: Entry,
    policy: Policy,
    experience: Experience,
    detector: Detector | None = None,
    past: Past | None = None,
) -> Replayed:
    """Run one recorded request under ``policy``, after those that ``past`` has seen.

    Without ``detector`` the scores on record are held against the policy's threshold; a stage that
    was not asked then cannot be asked now.
    """
    old = entry.outcome
    plan = Plan.of(
        policy,
        api=old.api,
        model=old.requested_model,
        stream=old.stream,
        metadata=dict(old.metadata),
        id=old.id,
    )
    if plan is None:
        return Replayed(old, None)
    if old.ending in ("failed", "abandoned") or not old.attempts:
        # The call failed, or the caller left before anything was decided: no policy changes that.
        return Replayed(old, replace(old, rule=plan.rule.name, policy=plan.policy))
    asked = detector if entry.content == "full" else None
    if old.late and old.served == 0 and old.started is None:
        plan = _letting_pass(plan)
    past = past or Past()
    past.now = max(past.now, old.time or 0.0)
    run = _Run(old, plan, policy.detector.thresholds, experience, asked, past)
    new = run.outcome(completion_flow(plan))
    if _course(new) == _course(old):
        # What was measured is better than what the log lets one add up.
        new = replace(
            new,
            time=old.time,
            stream=old.stream,
            added_seconds=old.added_seconds,
            detection_seconds=old.detection_seconds,
            held_seconds=old.held_seconds,
            late=old.late,
        )
    else:
        new = replace(new, time=old.time, stream=old.stream)
    return Replayed(old, new, run.guessed)


def _letting_pass(plan: Plan) -> Plan:
    """The plan for a stream that was released before anybody could know: it is only judged."""
    actions = tuple(action for action in plan.rule.actions if action in ("tag", "log"))
    return replace(plan, chain=(), rule=plan.rule.model_copy(update={"actions": actions}))


def enforced(policy: Policy) -> Policy:
    """The policy with nothing in shadow mode."""
    rules = tuple(rule.model_copy(update={"mode": None}) for rule in policy.rules)
    return policy.model_copy(update={"mode": "enforce", "rules": rules})


def replayable(policy: Policy) -> Policy:
    """The policy without budgets by key or metadata: a record does not say whose request it was."""
    budgets = tuple(budget for budget in policy.budgets if budget.by == "all")
    return policy if budgets == policy.budgets else policy.model_copy(update={"budgets": budgets})


def _course(outcome: Outcome) -> tuple[object, ...]:
    """What was done and what the caller got, without what it took."""
    verdict = outcome.verdict
    targets = tuple(attempt.target for attempt in outcome.attempts)
    label = None if verdict is None else verdict.label
    return outcome.ending, outcome.would, targets, outcome.served, label


class _Run:
    """Answers one flow from the record."""

    def __init__(
        self,
        old: Outcome,
        plan: Plan,
        thresholds: Thresholds,
        experience: Experience,
        detector: Detector | None,
        past: Past,
    ) -> None:
        self._past = past
        self._old = old
        self._plan = plan
        self._thresholds = thresholds
        self._experience = experience
        self._detector = detector
        judged = sum(attempt.verdict is not None for attempt in old.attempts)
        self._detection = old.detection_seconds / max(1, judged)
        self._choices = 1
        self._verdict: Verdict | None = None
        self._record: Outcome | None = None
        self.guessed = False

    def outcome(self, flow: Generator[Effect, Answer, Served]) -> Outcome:
        answer: Answer = None
        try:
            while True:
                answer = self._answer(flow.send(answer))
        except (StopIteration, RefusedError, _RecordedError):
            assert self._record is not None
            return self._record

    def _answer(self, effect: Effect) -> Answer:
        match effect:
            case CallModel(target, attempt):
                return self._call(target, attempt)
            case Classify(evidence):
                return Judged(self._judge(evidence), self._detection / self._choices)
            case FindUsable(targets):
                return Usable(targets)
            case Consult(operations):
                return self._past.store.ask(operations)
            case Emit(record):
                self._record = record
        return None

    def _call(self, target: Target, number: int) -> Answer:
        recorded = self._recorded(target, number)
        if recorded is None:
            return self._expected(target)
        if recorded.outcome == "failed":
            return Failed(_error(recorded.error or "Error"), recorded.seconds)
        self._verdict = recorded.verdict
        completion = self._completion(recorded)
        self._choices = len(completion.choices)
        return Called(completion, recorded.seconds)

    def _recorded(self, target: Target, number: int) -> Attempt | None:
        moved = self._old.moved
        if number == 0 and not moved:
            return self._old.attempts[0]
        for attempt in self._old.attempts if moved else self._old.attempts[1:]:
            if (attempt.target, attempt.model) == (target.name, target.model):
                return None if attempt.outcome == "abandoned" else attempt
        return None

    def _completion(self, recorded: Attempt) -> Completion:
        choices: tuple[Evidence, ...] = ()
        # What could not be judged then is not now either: a stream that broke, or was no text.
        if recorded.verdict is not None:
            known = recorded.evidence if self._detector is not None else ()
            # Else its verdict is on record, as one for all choices.
            choices = known or (Evidence(),)
        return Completion(choices, model=recorded.served_model, usage=recorded.usage)

    def _expected(self, target: Target) -> Answer:
        self.guessed, self._choices = True, 1
        expected = self._experience.expect(self._old.id or "", target.model)
        label: Label = "refusal" if expected.refuses else "normal"
        self._verdict = Verdict(label, float(expected.refuses), "expected")
        completion = Completion((Evidence(),), model=target.model, usage=expected.usage)
        return Called(completion, expected.seconds)

    def _judge(self, evidence: Evidence) -> Verdict:
        if self._detector is not None and evidence != Evidence():
            return self._detector.classify(evidence)
        assert self._verdict is not None
        if self._verdict.stage == "none":
            return unjudged(self._plan, self._verdict.degraded or "not judged")
        return at_threshold(self._verdict, self._thresholds)


def at_threshold(verdict: Verdict, thresholds: Thresholds) -> Verdict:
    """The verdict on the same score under other thresholds. Signals and guesses have none."""
    if verdict.stage in (SignalsDetector.name, "expected") or verdict.label == "partial":
        return verdict
    threshold = thresholds.refusal
    if threshold is None:
        threshold = _own_threshold() if verdict.stage == STAGE else verdict.threshold
    refuses = verdict.score >= threshold
    if refuses is (verdict.label == "refusal"):
        same = threshold == verdict.threshold
        return verdict if same else replace(verdict, threshold=threshold)
    label: Label = "refusal" if refuses else "normal"
    return replace(verdict, label=label, threshold=threshold, kind=None)


@cache
def _own_threshold() -> float:
    return EmbeddedDetector.load().thresholds.refusal


class _RecordedError(Exception):
    """A call failed when it was made."""


@cache
def _error(name: str) -> Exception:
    made: type[Exception] = type(name, (_RecordedError,), {})
    return made()

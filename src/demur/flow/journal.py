"""The running account of one request: its attempts, its seconds, and the outcome they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..vocabulary import (
    Attempt,
    AttemptOutcome,
    Completion,
    Ending,
    Evidence,
    Limited,
    Outcome,
    Target,
    Usage,
    Verdict,
)
from .decision import Accept
from .gathering import KEPT_CHARS
from .plan import Plan
from .standing import Start


@dataclass(slots=True)
class Journal:
    """What one flow has seen so far. Seconds are those that answers brought."""

    plan: Plan
    stream: bool = False
    elapsed: float = 0.0
    detection: float = 0.0
    held: float | None = None
    own: float = 0.0
    ending: Ending = "abandoned"
    would: Ending | None = None
    tried: list[Target] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    start: Start = field(default_factory=Start)
    limited: Limited | None = None
    late: bool = False

    def start_at(self, start: Start) -> Target:
        """Note where the request starts; returns that target.

        One that was passed over counts as tried, and is not among the attempts.
        """
        self.start = start
        if start.at is None or self.plan.shadow:
            return self.plan.requested
        self.tried.append(self.plan.requested)
        return start.at

    @property
    def moved(self) -> bool:
        return self.start.at is not None and not self.plan.shadow

    @property
    def at_first(self) -> bool:
        """Whether the call last made is the request's first."""
        return len(self.tried) == 1 + self.moved

    def target_of(self, index: int | None) -> Target | None:
        """The target of an attempt."""
        return None if index is None else self.tried[index + self.moved]

    def number_of(self, target: Target) -> int:
        """An attempt's number: 0 is the caller's own request, whenever it is made."""
        own = target is self.plan.requested
        return 0 if own else len(self.tried)

    def spend(self, seconds: float) -> float:
        self.elapsed += seconds
        return seconds

    def add(
        self,
        target: Target,
        outcome: AttemptOutcome,
        seconds: float,
        *,
        verdict: Verdict | None = None,
        completion: Completion | None = None,
        error: BaseException | None = None,
    ) -> int:
        """Record an attempt; returns its index."""
        stand_in = self.start.stand_in if target is self.plan.requested else None
        answering = stand_in or target
        self.attempts.append(
            Attempt(
                target=answering.name,
                model=answering.model,
                outcome=outcome,
                verdict=verdict,
                served_model=completion.model if completion else None,
                usage=completion.usage if completion else None,
                seconds=seconds,
                error=type(error).__name__ if error is not None else None,
                evidence=self._kept(completion.choices) if completion else (),
            )
        )
        return len(self.attempts) - 1

    def amend(
        self,
        index: int,
        *,
        verdict: Verdict | None,
        model: str | None,
        usage: Usage | None,
        error: BaseException | None = None,
        choices: tuple[Evidence, ...] = (),
    ) -> None:
        """Complete a stream's attempt with what only its further course told."""
        before = self.attempts[index]
        self.attempts[index] = replace(
            before,
            verdict=verdict,
            served_model=model or before.served_model,
            usage=usage or before.usage,
            error=before.error if error is None else type(error).__name__,
            evidence=self._kept(choices) or before.evidence,
        )

    def _kept(self, choices: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
        if not self.plan.keeps_content:
            return ()
        return tuple(
            replace(choice, text=_ends(choice.text), refusal=_ends(choice.refusal))
            for choice in choices
        )

    def accept(self, decision: Accept) -> None:
        """The last attempt is the one to serve."""
        own = self.tried[-1] is self.plan.requested
        self.ending = "accepted" if own else "fell_back"
        self.would = decision.would

    def outcome(self, served: int | None, *, finished: bool = True) -> Outcome:
        """The record of the request. ``own`` seconds are what the served attempt itself took."""
        return Outcome(
            api=self.plan.api,
            requested_model=self.plan.requested.model,
            ending=self.ending,
            attempts=tuple(self.attempts),
            served=served,
            rule=self.plan.rule.name,
            shadow=self.plan.shadow,
            would=self._would,
            stream=self.stream,
            added_seconds=max(0.0, self.elapsed - self.own),
            detection_seconds=self.detection,
            held_seconds=self.held,
            finished=finished,
            policy=self.plan.policy,
            metadata=self.plan.metadata,
            started=self.start.reason,
            limited=self.limited or ("rights" if self.start.barred else None),
            late=self.late,
            id=self.plan.id,
            time=self.plan.time,
        )

    @property
    def _would(self) -> Ending | None:
        passed_over = self.start.at is not None and self.plan.shadow
        return "fell_back" if passed_over and self.ending == "accepted" else self.would


def _ends(text: str) -> str:
    """The text's beginning and end; ``windows: all`` may have judged what is between them, too."""
    if len(text) <= 2 * KEPT_CHARS:
        return text
    return f"{text[:KEPT_CHARS]}\n{text[-KEPT_CHARS:]}"

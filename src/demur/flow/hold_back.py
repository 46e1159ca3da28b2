"""When is enough of a stream held?

A ``Watch`` reads along. It asks for a verdict whenever the visible text of a choice passes a
multiple of ``STEP_CHARS``, always on the same prefixes of the same text, so how the text was cut
into chunks cannot change what it finds. It is decided once one choice is surely delivered, once
all are surely refused, once something arrives that only a delivering stream holds (a tool call),
or at a cap, which lies further off for a choice that is ``suspect`` where others are given up.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from ..vocabulary import Chunk, Delta, Verdict
from .decision import overall
from .effects import Answer, Effect
from .gathering import STEP_CHARS, ChoiceSoFar, Gathering
from .journal import Journal
from .judging import judge, judge_one


class Watch:
    """Follows one stream until it can be released or must be replaced.

    ``decided`` says that the wait is over; ``verdict`` is then what it found, ``None`` where the
    stream is to be released unjudged: at a cap, or since it is ``unreadable``, which is an error
    event or an end before there was anything to judge.
    """

    def __init__(self, journal: Journal, *, decided: bool = False) -> None:
        self._journal = journal
        self._settings = journal.plan.rule.stream
        self.gathering = Gathering(journal.plan.choices)
        self.decided = decided
        self.final = False
        self.unreadable = False
        self.verdict: Verdict | None = None
        self._visible_seconds = 0.0

    def read(self, chunk: Chunk) -> None:
        """Take in a chunk without judging it."""
        self.gathering.note(chunk)
        for delta in chunk.deltas:
            self.gathering.absorb(delta)
        if chunk.done:
            self.gathering.end()

    def see(self, chunk: Chunk) -> Generator[Effect, Answer, None]:
        """Take in a chunk and, while undecided, judge what it brought."""
        self.gathering.note(chunk)
        for delta in chunk.deltas:
            for part in _parts(delta):
                choice = self.gathering.absorb(part)
                if not self.decided:
                    yield from self._weigh(choice, part)
        if chunk.opaque and not self.decided:
            self.unreadable = True
            self._decide(None)
        if chunk.done:
            self.gathering.end()
            if not self.decided:
                yield from self.conclude()

    def conclude(self) -> Generator[Effect, Answer, None]:
        """Judge the whole: the stream has said all it will."""
        self.gathering.end()
        self.final = True
        self._decide((yield from judge(self._journal, self.gathering.evidence())))
        self.unreadable = self.verdict is None

    def cap(self) -> Generator[Effect, Answer, None]:
        """A cap was reached while unsure."""
        if self._settings.at_cap == "release":
            self._decide(None)
            return
        held = [choice.prefix(self._cap_of(choice)) for choice in self.gathering.choices.values()]
        self._decide((yield from judge(self._journal, held)))

    def wait_left(self) -> float | None:
        """Seconds until the time cap; ``None`` while nothing visible is held, or without a cap."""
        seconds = self._settings.hold_back.seconds
        if seconds is None or not self.gathering.visible:
            return None
        return max(0.0, seconds - self._visible_seconds)

    def waited(self, seconds: float) -> None:
        if self.gathering.visible:
            self._visible_seconds += seconds

    def _judge_choice(
        self, choice: ChoiceSoFar, *, urgent: bool
    ) -> Generator[Effect, Answer, None]:
        if choice.verdict is not None and choice.verdict.label != "uncertain":
            return
        cap = self._settings.hold_back.chars
        while (chars := choice.due(self._cap_of(choice))) is not None:
            choice.judged_chars = chars
            evidence = choice.prefix(chars)
            choice.verdict = verdict = yield from judge_one(self._journal, evidence, final=False)
            if verdict.label != "uncertain":
                return
            if chars <= cap < chars + STEP_CHARS:
                choice.suspect = verdict.score > verdict.threshold
        if choice.finished:
            choice.verdict = yield from judge_one(self._journal, choice.evidence(), final=True)
        elif urgent:
            choice.verdict = yield from judge_one(self._journal, choice.evidence(), final=False)

    def _weigh(self, choice: ChoiceSoFar, delta: Delta) -> Generator[Effect, Answer, None]:
        """Is enough held, now that ``choice`` has got ``delta``?"""
        if choice.reasoning and self._settings.hold_back.reasoning == "release":
            self._decide(None)
            return
        yield from self._judge_choice(choice, urgent=bool(delta.signals or delta.non_text))
        if self._sure():
            return
        if self.gathering.complete:
            yield from self.conclude()
        elif self._capped():
            yield from self.cap()

    def _sure(self) -> bool:
        verdicts = [c.verdict for c in self.gathering.choices.values() if c.verdict is not None]
        sure = [v for v in verdicts if v.label != "uncertain"]
        if any(v.label == "normal" for v in sure) or len(sure) >= max(
            self.gathering.expected, len(self.gathering.choices)
        ):
            self._decide(overall(sure))
        return self.decided

    def _capped(self) -> bool:
        choices = self.gathering.choices.values()
        waiting = [c for c in choices if c.verdict is None or c.verdict.label == "uncertain"]
        return bool(waiting) and all(c.chars >= self._cap_of(c) for c in waiting)

    def _cap_of(self, choice: ChoiceSoFar) -> int:
        hold_back = self._settings.hold_back
        return hold_back.longest if choice.suspect else hold_back.chars

    def _decide(self, verdict: Verdict | None) -> None:
        self.decided = True
        self.verdict = verdict


def _parts(delta: Delta) -> tuple[Delta, ...]:
    """The text a delta adds, then what else it says: as if that had come in a chunk of its own."""
    text = Delta(delta.index, delta.text, delta.refusal)
    rest = replace(delta, text="", refusal="")
    return tuple(part for part in (text, rest) if part != Delta(delta.index)) or (delta,)

"""One request for a stream, all its attempts: hold back, then release or switch.

The beginning of a stream is held until its ``Watch`` is decided. A refused stream stays open,
unread, until a fallback has been accepted, since it may still be what the caller gets; then it is
cut. Once a chunk is released there is no switching any more: the rest passes one by one, and the
verdict on the whole is only recorded.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnreadableError
from ..vocabulary import AttemptOutcome, Chunk, Outcome, Target, Verdict
from .completion import refused_error
from .consulting import begin, leave
from .decision import Accept, Decision, Exhausted, FallBack, on_exhaustion, triggers
from .effects import (
    Answer,
    Arrived,
    CloseStream,
    ConsumerLeft,
    Effect,
    Emit,
    Ended,
    Failed,
    NextChunk,
    Opened,
    OpenStream,
    Release,
    Waited,
)
from .hold_back import Watch
from .journal import Journal
from .judging import judge, next_step, time_left
from .plan import Plan
from .standing import Start

Steps = Generator[Effect, Answer, None]


@dataclass(slots=True)
class _Head:
    """A stream whose beginning is held."""

    stream: Any
    watch: Watch
    seconds: float
    own: bool = True
    index: int = -1
    chunks: list[Chunk] = field(default_factory=list)
    first_chunk_seconds: float | None = None
    first_chunk_at: float | None = None
    ended: bool = False
    error: Exception | None = None


def stream_flow(plan: Plan, start: Start | None = None) -> Generator[Effect, Answer, Outcome]:
    """Yields effects, is sent answers, returns the record once the stream has been served whole.

    ``start`` is where the request starts, if that has been found out already.

    Raises what the served stream raises, in its place; ``RefusedError`` if the policy asks for it.
    ``ConsumerLeft`` thrown in ends it: what is open is closed, the record is emitted, and the
    exception comes back out.
    """
    run = _Run(plan)
    try:
        if start is None:
            start = yield from begin(run.journal)
        yield from run.attempts(start)
        yield from run.finish()
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from run.abandon(error)
        raise
    outcome = run.outcome()
    yield Emit(outcome)
    yield from leave(run.journal, outcome)
    return outcome


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.journal = Journal(plan, stream=True)
        self.open: list[Any] = []
        self.held: tuple[Target, _Head] | None = None
        self.reserve: _Head | None = None
        self.served: _Head | None = None
        self._answered = False

    def attempts(self, start: Start) -> Steps:
        """Try targets until one can be served, and serve it."""
        target = self.journal.start_at(start)
        while True:
            head = yield from self._try(target)
            decision = yield from self._decide(target, head)
            if isinstance(decision, FallBack):
                yield from self._put_aside(head)
                target = decision.target
                continue
            if isinstance(decision, Accept):
                assert head is not None
                yield from self._drop_reserve()
                self.journal.accept(decision)
                yield from self._serve(head)
                return
            if not self._answered:
                yield from self._put_aside(head)
                target = self.plan.requested
                continue
            yield from self._exhaust(head, decision)
            return

    def _try(self, target: Target) -> Generator[Effect, Answer, _Head | None]:
        """Open a stream and hold its beginning; ``None`` where it could not be opened."""
        number = self.journal.number_of(target)
        timeout = time_left(self.journal) if number else None
        answer = yield OpenStream(target, number, timeout)
        self.journal.tried.append(target)
        if isinstance(answer, Failed):
            self.journal.add(
                target, "failed", self.journal.spend(answer.seconds), error=answer.error
            )
            if not number:
                self.journal.ending = "failed"
                raise answer.error
            return None
        assert isinstance(answer, Opened)
        self.open.append(answer.stream)
        watch = Watch(self.journal, decided=not self.plan.acts)
        own = not number
        head = _Head(answer.stream, watch, self.journal.spend(answer.seconds), own)
        self.held = target, head
        if self.plan.enforced:
            yield from self._hold(head)
        return head

    def _hold(self, head: _Head) -> Steps:
        yield from self._wait(head)
        if not head.own and head.error is None and head.watch.unreadable:
            head.error = UnreadableError("the fallback's stream cannot be read")

    def _wait(self, head: _Head) -> Steps:
        while not head.watch.decided:
            cap = head.watch.wait_left()
            if cap == 0.0:
                yield from head.watch.cap()
                return
            limit = None if head.own else time_left(self.journal)
            answer = yield NextChunk(head.stream, _sooner(cap, limit))
            assert isinstance(answer, Arrived | Ended | Waited | Failed)
            head.seconds += self.journal.spend(answer.seconds)
            head.watch.waited(answer.seconds)
            if isinstance(answer, Arrived):
                self._note_first(head)
                head.chunks.append(answer.chunk)
                yield from head.watch.see(answer.chunk)
            elif isinstance(answer, Failed):
                head.error = answer.error
                return
            elif isinstance(answer, Ended):
                head.ended = True
                yield from head.watch.conclude()
            elif limit is not None and not time_left(self.journal):
                head.error = TimeoutError("the fallback was not decided in time")
                return

    def _note_first(self, head: _Head) -> None:
        if head.first_chunk_at is None:
            head.first_chunk_seconds = head.seconds
            head.first_chunk_at = self.journal.elapsed

    def _decide(self, target: Target, head: _Head | None) -> Generator[Effect, Answer, Decision]:
        if head is None:
            return (yield from next_step(self.journal, None, failed=True))
        if head.error is not None:
            self._record(target, head, "accepted" if head.own else "failed")
            if head.own:
                return Accept()
            return (yield from next_step(self.journal, None, failed=True))
        decision = yield from next_step(self.journal, head.watch.verdict)
        self._answered = True
        self._record(target, head, "accepted" if isinstance(decision, Accept) else "refused")
        return decision

    def _record(self, target: Target, head: _Head, outcome: AttemptOutcome) -> None:
        self.held = None
        head.index = self.journal.add(target, outcome, head.seconds, error=head.error)
        self._amend(head, head.watch.verdict)

    def _amend(self, head: _Head, verdict: Verdict | None) -> None:
        gathering = head.watch.gathering
        self.journal.amend(
            head.index,
            verdict=verdict,
            model=gathering.model,
            usage=gathering.usage,
            error=head.error,
            choices=gathering.evidence() if self.plan.keeps_content else (),
        )

    def _put_aside(self, head: _Head | None) -> Steps:
        """Keep a refused stream only if it may still be what the caller gets."""
        if head is None:
            return
        serve = on_exhaustion(self.plan)
        if head.error is not None or serve == "error" or (serve == "first" and self.reserve):
            yield from self._close(head.stream)
            return
        yield from self._drop_reserve()
        self.reserve = head

    def _drop_reserve(self) -> Steps:
        if self.reserve is not None:
            dropped, self.reserve = self.reserve, None
            yield from self._close(dropped.stream)

    def _exhaust(self, head: _Head | None, decision: Exhausted) -> Steps:
        yield from self._put_aside(head)
        self.journal.ending = "exhausted"
        if decision.serve == "error" or self.reserve is None:
            raise refused_error(self.journal.outcome(None))
        kept, self.reserve = self.reserve, None
        yield from self._serve(kept)

    def _serve(self, head: _Head) -> Steps:
        """Release what is held, then pass the rest through."""
        self.served = head
        self._settle_times(head)
        yield Emit(self.outcome(finished=False))
        yield Release(head.stream, tuple(head.chunks))
        head.chunks.clear()
        if head.error is not None:
            raise head.error
        while not head.ended:
            yield from self._pass_one(head)

    def _pass_one(self, head: _Head) -> Steps:
        answer = yield NextChunk(head.stream)
        if isinstance(answer, Failed):
            head.error = answer.error
            raise answer.error
        if isinstance(answer, Ended):
            head.ended = True
            return
        assert isinstance(answer, Arrived)
        if head.watch.decided:
            head.watch.read(answer.chunk)
        else:
            yield from head.watch.see(answer.chunk)
            yield from self._note_would(head)
        yield Release(head.stream, (answer.chunk,))

    def _note_would(self, head: _Head) -> Steps:
        """Once a stream in shadow mode is decided: what would have been done about it?"""
        if head.watch.decided:
            decision = yield from next_step(self.journal, head.watch.verdict)
            assert isinstance(decision, Accept)
            self.journal.would = decision.would

    def _settle_times(self, head: _Head) -> None:
        if head.first_chunk_at is None or head.first_chunk_seconds is None:
            self.journal.own = head.seconds
            return
        self.journal.own = head.first_chunk_seconds
        self.journal.held = self.journal.elapsed - head.first_chunk_at

    def finish(self) -> Steps:
        """The stream was served whole: close and judge it."""
        assert self.served is not None
        yield from self._close_all()
        yield from self._judge_whole(self.served)

    def abandon(self, error: BaseException) -> Steps:
        """The consumer left, or the stream failed in its place: close and record all the same.

        What is thrown in meanwhile, as by cancelling twice, cuts short nothing but the judging.
        """
        try:
            if self.held is not None:
                self._record(*self.held, "abandoned")
            yield from self._close_all()
            if self.served is not None:
                yield from self._judge_abandoned(self.served, error)
        except GeneratorExit:
            raise
        except BaseException as again:
            yield from self.abandon(again)
            raise
        outcome = self.outcome()
        yield Emit(outcome)
        yield from leave(self.journal, outcome)

    def _judge_abandoned(self, head: _Head, error: BaseException) -> Steps:
        if isinstance(error, ConsumerLeft) and head.watch.gathering.complete:
            yield from self._judge_whole(head)
        else:
            self._amend(head, head.watch.verdict)

    def _judge_whole(self, head: _Head) -> Steps:
        watch = head.watch
        if not watch.decided:
            yield from watch.conclude()
            yield from self._note_would(head)
        verdict = watch.verdict
        if not watch.final and not watch.gathering.opaque:
            verdict = yield from judge(self.journal, watch.gathering.evidence())
            seen = triggers(self.plan, watch.verdict)
            self.journal.late = self.plan.acts and triggers(self.plan, verdict) and not seen
        self._amend(head, verdict)

    def outcome(self, *, finished: bool = True) -> Outcome:
        served = None if self.served is None else self.served.index
        return self.journal.outcome(served, finished=finished)

    def _close(self, stream: Any) -> Steps:
        self.open = [other for other in self.open if other is not stream]
        yield CloseStream(stream)

    def _close_all(self) -> Steps:
        while self.open:
            yield CloseStream(self.open.pop())


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)

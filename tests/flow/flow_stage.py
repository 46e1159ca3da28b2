"""A stage for flows: plays scripts to them by hand, with a clock that only the script moves."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

from demur.detection import Detector
from demur.flow.effects import (
    Answer,
    Arrived,
    Called,
    CallModel,
    Classify,
    CloseStream,
    Consult,
    Effect,
    Emit,
    Ended,
    Failed,
    FindUsable,
    Judged,
    NextChunk,
    Opened,
    OpenStream,
    Release,
    Usable,
    Waited,
)
from demur.flow.plan import Plan
from demur.policy.schema import HoldBack, Retry, Rule, StreamSettings
from demur.stores import NoStore, Store
from demur.testing.detectors import PhraseDetector
from demur.vocabulary import Chunk, Completion, Delta, Outcome, Signal, Target

A, B, C, D = (Target(name=name, model=f"model-{name}") for name in "abcd")
FILTERED = Signal("finish_reason", "content_filter", "filter")


@dataclass(frozen=True)
class Pause:
    """Seconds that pass before a stream's next event."""

    seconds: float


Event = Chunk | Exception | Pause
Script = Sequence[Event] | Completion | Exception


def chunk(text: str = "", *, index: int = 0, **said: Any) -> Chunk:
    """A chunk with one delta and a native object of its own."""
    return Chunk(native=object(), deltas=(Delta(index=index, text=text, **said),))


def stream_of(text: str, size: int = 4, **last: Any) -> list[Chunk]:
    """A role chunk, ``text`` cut every ``size`` characters, and a finish chunk."""
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    return [chunk(), *(chunk(piece) for piece in pieces), chunk(finished=True, **last)]


def plan_of(
    *chain: Target,
    actions: Sequence[str] = ("tag", "log"),
    on: Sequence[str] = ("refusal",),
    hold: Mapping[str, Any] | None = None,
    at_cap: str = "release",
    retry: Mapping[str, Any] | None = None,
    **plan: Any,
) -> Plan:
    """A plan for a request to ``A`` that retries on ``chain``, if there is one."""
    rule = Rule(
        name="rule",
        on=tuple(on),
        actions=(*actions, "retry") if chain else tuple(actions),
        retry=Retry(fallbacks=tuple(t.name for t in chain), **(retry or {})) if chain else None,
        stream=StreamSettings(hold_back=HoldBack(**(hold or {})), at_cap=at_cap),
    )
    return Plan(api="chat", requested=A, rule=rule, chain=chain, **plan)


@dataclass(eq=False)
class Opening:
    """An opened stream: what of its script is still to come."""

    target: Target
    events: list[Event]
    closes: int = 0


@dataclass(repr=False)
class Trace:
    """What a flow asked for and what came of it."""

    effects: list[Effect] = field(default_factory=list)
    opened: list[Opening] = field(default_factory=list)
    released: list[tuple[Opening, Chunk]] = field(default_factory=list)
    records: list[Outcome] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None

    def __repr__(self) -> str:
        return f"{[type(e).__name__ for e in self.effects]} -> {self.error!r}"

    @property
    def tried(self) -> list[Target]:
        return [e.target for e in self.effects if isinstance(e, CallModel | OpenStream)]

    @property
    def finished(self) -> list[Outcome]:
        return [record for record in self.records if record.finished]

    @property
    def outcome(self) -> Outcome:
        """The one finished record."""
        (outcome,) = self.finished
        return outcome

    @property
    def got(self) -> list[Chunk]:
        return [chunk for _, chunk in self.released]

    def position(self, kind: type[Effect], nth: int = 0) -> int:
        return [i for i, e in enumerate(self.effects) if isinstance(e, kind)][nth]


@dataclass
class Stage:
    """Answers a flow's effects from ``scripts``, by target name.

    ``seconds`` gives the time each answer took, apart from ``Pause`` events. ``usable`` names the
    targets with rights. ``throw`` maps the number of an effect to what is thrown in instead of an
    answer to it. ``detector`` failing gives ``Failed``, like a driver would; so does a ``store``.
    """

    scripts: Mapping[str, Script]
    detector: Detector = field(default_factory=PhraseDetector)
    seconds: Iterator[float] = field(default_factory=lambda: repeat(0.0))
    usable: frozenset[str] | None = None
    throw: Mapping[int, BaseException] = field(default_factory=dict)
    store: Store = field(default_factory=NoStore)

    def play(self, flow: Generator[Effect, Answer, Any]) -> Trace:
        trace = Trace()
        try:
            effect = next(flow)
            while True:
                trace.effects.append(effect)
                assert len(trace.effects) < 10_000, "a flow without end"
                thrown = self.throw.get(len(trace.effects) - 1)
                if thrown is not None:
                    if isinstance(effect, CloseStream):
                        effect.stream.closes += 1
                    if isinstance(effect, Emit):
                        trace.records.append(effect.record)
                    effect = flow.throw(thrown)
                    continue
                answer = self._answer(effect, trace)
                effect = flow.send(answer)
        except StopIteration as done:
            trace.result = done.value
        except BaseException as error:  # noqa: BLE001 - whatever comes out is what is tested
            trace.error = error
        return trace

    def _answer(self, effect: Effect, trace: Trace) -> Answer:
        match effect:
            case NextChunk(stream, timeout):
                return self._read(stream, timeout)
            case Release(stream, chunks):
                trace.released.extend((stream, chunk) for chunk in chunks)
                return None
            case CloseStream(stream):
                stream.closes += 1
                return None
            case Emit(record):
                trace.records.append(record)
                return None
        answer = self._perform(effect, trace)
        return replace(answer, seconds=next(self.seconds))  # type: ignore[type-var]

    def _perform(self, effect: Effect, trace: Trace) -> Any:
        match effect:
            case FindUsable(targets):
                allowed = self.usable
                return Usable(tuple(t for t in targets if allowed is None or t.name in allowed))
            case CallModel(target):
                script = self.scripts[target.name]
                return Failed(script) if isinstance(script, Exception) else Called(script)  # type: ignore[arg-type]
            case OpenStream(target):
                script = self.scripts[target.name]
                if isinstance(script, Exception):
                    return Failed(script)
                trace.opened.append(Opening(target, list(script)))  # type: ignore[arg-type]
                return Opened(trace.opened[-1])
            case Consult(operations):
                try:
                    return self.store.ask(operations)
                except Exception as error:  # noqa: BLE001 - as drivers do
                    return Failed(error)
            case Classify(evidence, final):
                try:
                    return Judged(self.detector.classify(evidence, final=final))
                except Exception as error:  # noqa: BLE001 - as drivers do
                    return Failed(error)
        raise AssertionError(effect)

    def _read(self, stream: Opening, timeout: float | None) -> Answer:
        assert not stream.closes, "read after close"
        seconds = next(self.seconds)
        while stream.events and isinstance(pause := stream.events[0], Pause):
            if timeout is not None and seconds + pause.seconds > timeout:
                waited = max(0.0, timeout - seconds)
                stream.events[0] = Pause(pause.seconds - waited)
                return Waited(seconds + waited)
            seconds += pause.seconds
            del stream.events[0]
        if not stream.events:
            return Ended(seconds)
        event = stream.events.pop(0)
        if isinstance(event, Exception):
            return Failed(event, seconds)
        assert isinstance(event, Chunk)
        return Arrived(event, seconds)

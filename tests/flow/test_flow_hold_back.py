"""When a held stream is decided, and that cutting it differently decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from flow_stage import FILTERED, A, B, C, Pause, Stage, Trace, chunk, plan_of, stream_of
from hypothesis import example, given
from hypothesis import strategies as st

from demur.flow.effects import Classify, FindUsable, NextChunk, Release
from demur.flow.plan import Plan
from demur.flow.stream import stream_flow
from demur.testing.detectors import PhraseDetector
from demur.vocabulary import Chunk, Delta, Evidence, Signal, Verdict

NORMAL = "Sure, here is how you do it: take a large pan and put in the butter first."
STOPPED = Signal("finish_reason", "stop", refuses=False)


class Letters:
    """Judges by a checksum of exactly what it is shown, so no two prefixes are alike to it.

    A prefix is sure only if its checksum is small: where decisions fall depends on every letter.
    """

    name = "letters"
    blocking = False

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        shown = f"{evidence.text}|{evidence.refusal}|{evidence.signals}|{evidence.non_text}"
        sum_ = sum((i + 1) * ord(c) for i, c in enumerate(shown))
        if not final and sum_ % 11 > 1:
            return Verdict("uncertain", 0.5, self.name)
        label = ("normal", "refusal", "partial")[sum_ % 3]
        return Verdict(label, (sum_ % 97) / 97, self.name)  # type: ignore[arg-type]


def cut(text: str, at: Sequence[int]) -> list[str]:
    """``text`` cut at these points, empty pieces included."""
    points = [0, *sorted(min(point, len(text)) for point in at), len(text)]
    return [text[a:b] for a, b in pairwise(points)]


def as_stream(pieces: Sequence[str], *, merged: bool, refusal: bool, **last: Any) -> list[Chunk]:
    """The pieces as chunks; with ``merged`` the last one also carries the finish."""
    field = "refusal" if refusal else "text"
    deltas = [Delta(**{field: piece}) for piece in pieces]
    ending = Delta(finished=True, **last)
    if merged:
        deltas[-1] = Delta(**{field: pieces[-1]}, finished=True, **last)
    else:
        deltas.append(ending)
    return [Chunk(object(), (delta,)) for delta in deltas]


texts = st.text("I'm sory, Sure\n<think>/ä世", max_size=80) | st.sampled_from(
    ["I'm sorry, I can't help with that. " * 3, NORMAL, "<think>I'm sorry</think>\n\nSure. " * 3]
)
cuts = st.lists(st.integers(0, 90), max_size=12)


def attempt_of(plan: Plan, script: list[Chunk], detector: Any) -> tuple[Any, ...]:
    """What was decided: the attempt's verdict at its end, its outcome, and all that was judged."""
    scripts = {"a": script, "b": stream_of(NORMAL)}
    trace = Stage(scripts, detector).play(stream_flow(plan))
    attempt, outcome = trace.outcome.attempts[0], trace.outcome
    first = next((s for s, _ in trace.released), None)
    served = None if first is None else first.target.name
    judged = [e for e in trace.effects if isinstance(e, Classify)]
    return attempt.outcome, attempt.verdict, outcome.ending, outcome.would, served, judged


@given(
    text=texts, one=cuts, other=cuts, merged=st.tuples(st.booleans(), st.booleans()),
    refusal=st.booleans(), cap=st.integers(1, 60), at_cap=st.sampled_from(["release", "judge"]),
    last=st.sampled_from([{}, {"signals": (FILTERED,)}, {"signals": (STOPPED,)}]),
    detector=st.sampled_from([PhraseDetector(), Letters()]), shadow=st.booleans(),
)  # fmt: skip
@example(
    text="I cannot do that", one=[8], other=[], merged=(False, False), refusal=False, cap=60,
    at_cap="release", last={}, detector=Letters(), shadow=False,
).via("a chunk that ends where a word does")  # fmt: skip
@example(
    text="I'm sorr " * 9, one=[], other=[], merged=(True, False), refusal=False, cap=8,
    at_cap="release", last={}, detector=Letters(), shadow=False,
).via("text over the cap and the finish in one chunk")  # fmt: skip
def test_cuts_change_nothing(
    text: str, one: list[int], other: list[int], merged: tuple[bool, bool], refusal: bool,
    cap: int, at_cap: str, last: dict[str, Any], detector: Any, shadow: bool,
) -> None:  # fmt: skip
    """The same text in two cuttings: the same evidence is judged, and the same decided."""
    plan = plan_of(B, hold={"chars": cap}, at_cap=at_cap, on=("refusal", "partial"), shadow=shadow)
    results = [
        attempt_of(plan, as_stream(cut(text, at), merged=m, refusal=refusal, **last), detector)
        for at, m in zip((one, other), merged, strict=True)
    ]
    assert results[0] == results[1]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.text("ab I'm", max_size=9)), max_size=20),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.integers(1, 40),
)  # fmt: skip
def test_many_deltas_in_a_chunk_or_one_each(
    said: list[tuple[int, str]], joins: list[bool], cap: int
) -> None:
    """Deltas of several choices decide the same, packed into shared chunks or not."""
    deltas = [Delta(index, text) for index, text in said]
    deltas += [Delta(index, finished=True) for index in range(3)]
    packed: list[Chunk] = []
    for delta, join in zip(deltas, [False, *joins, False, False], strict=False):
        before = packed.pop().deltas if join and packed else ()
        packed.append(Chunk(object(), (*before, delta)))
    plan = plan_of(B, hold={"chars": cap}, choices=3)
    single = [Chunk(object(), (delta,)) for delta in deltas]
    assert attempt_of(plan, single, Letters()) == attempt_of(plan, packed, Letters())


LABELLED = {"normal": "Sure, here it is.", "refusal": "I'm sorry, I won't.",
            "partial": "I can only give half.", "empty": ""}  # fmt: skip


@given(
    st.lists(st.sampled_from(sorted(LABELLED)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.integers(1, 12),
)
def test_one_choice_that_delivers_is_enough(kinds: list[str], order: Any, size: int) -> None:
    """With ``n`` choices, taking turns as they like, it is a refusal only if all refuse."""
    queues = [stream_of(LABELLED[kind], size) for kind in kinds]
    script: list[Chunk] = []
    while any(queues):
        index = order.choice([i for i, queue in enumerate(queues) if queue])
        delta = queues[index].pop(0).deltas[0]
        script.append(
            Chunk(object(), (Delta(index=index, text=delta.text, finished=delta.finished),))
        )
    trace = Stage({"a": script, "b": stream_of(NORMAL)}).play(
        stream_flow(plan_of(B, choices=len(kinds)))
    )
    refused = all(kind in ("refusal", "empty") for kind in kinds)
    assert trace.outcome.ending == ("fell_back" if refused else "accepted")
    if not refused:
        assert [id(c) for c in trace.got] == [id(c) for c in script]


def play(script: list[Any], plan: Plan, detector: Any = None, **stage: Any) -> Trace:
    scripts = {"a": script, "b": stream_of(NORMAL)}
    return Stage(scripts, detector or PhraseDetector(), **stage).play(stream_flow(plan))


def held(trace: Trace) -> int:
    """How many chunks came with the first release."""
    first = trace.effects[trace.position(Release)]
    assert isinstance(first, Release)
    return len(first.chunks)


def test_a_tool_call_releases_at_once() -> None:
    """What only a delivering stream holds ends the wait, with the text before it undecided."""
    script = [chunk(), chunk("I'm"), chunk(non_text=True), chunk(non_text=True)]
    assert held(play(script, plan_of(B))) == 3


def test_a_provider_signal_refuses_at_once() -> None:
    """A refusing signal ends the wait; nothing further is read of the stream."""
    script = [chunk("Well"), chunk(signals=(FILTERED,)), *stream_of(NORMAL)]
    trace = play(script, plan_of(B))
    assert trace.outcome.ending == "fell_back"
    reads = [e for e in trace.effects if isinstance(e, NextChunk) and e.stream.target == A]
    assert len(reads) == 2


def test_the_refusal_field_is_judged_as_it_grows() -> None:
    """Text in the refusal field counts for the hold-back like visible text."""
    script = [chunk(refusal=piece) for piece in ("I'm ", "sorry, ", "I cannot ", "do ", "that")]
    trace = play(script, plan_of(B))
    assert trace.outcome.ending == "fell_back"
    reads = [e for e in trace.effects if isinstance(e, NextChunk) and e.stream.target == A]
    assert len(reads) < len(script)


UNSURE = "I'm sorr" * 20


class Unsure(PhraseDetector):
    """Never sure of a prefix; of a whole, it finds a refusal."""

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        return self._verdict("refusal" if final else "uncertain")


@pytest.mark.parametrize(("at_cap", "outcome"), [("release", "accepted"), ("judge", "refused")])
def test_the_cap_in_characters(at_cap: str, outcome: str) -> None:
    """At the cap the policy says: release unsure, or judge what is held, cut to the cap."""
    plan = plan_of(B, hold={"chars": 20}, at_cap=at_cap)
    trace = play(stream_of(UNSURE, 7), plan, Unsure())
    assert trace.outcome.attempts[0].outcome == outcome
    if at_cap == "release":
        assert held(trace) == 4  # the role chunk and 21 characters
    else:
        final = next(e for e in trace.effects if isinstance(e, Classify) and e.final)
        assert len(final.evidence.text) <= 20


@dataclass
class Leaning:
    """Never sure of a beginning; leans by ``scores``: a score from so many characters on."""

    scores: Sequence[tuple[int, float]]
    name = "leaning"
    blocking = False

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        shown = len(evidence.text)
        score = [score for chars, score in self.scores if chars <= shown][-1]
        return Verdict("refusal" if final else "uncertain", score, self.name, threshold=0.6)


@pytest.mark.parametrize(
    ("scores", "chars"),
    [
        ([(0, 0.6)], 20),
        ([(0, 0.61)], 40),
        ([(0, 0.9), (16, 0.1)], 20),
        ([(0, 0.1), (16, 0.9)], 40),
        ([(0, 0.9), (24, 0.1)], 40),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_suspect_at_the_cap_is_held_on(
    scores: list[tuple[int, float]], chars: int, size: int
) -> None:
    """What the last judged beginning leans to decides, however the text was cut: above the
    threshold it is held, and judged, up to the second cap."""
    plan = plan_of(B, hold={"chars": 20, "suspect_chars": 40, "seconds": None}, at_cap="judge")
    trace = play(stream_of("word " * 50, size), plan, Leaning(scores))
    first = trace.effects[: trace.position(FindUsable)]
    *early, final = (e for e in first if isinstance(e, Classify))
    assert [len(e.evidence.text) for e in early] == list(range(8, chars + 1, 8))
    assert len(final.evidence.text) == chars


def test_one_suspect_choice_holds_the_others() -> None:
    """The stream is held until no undecided choice is below a cap of its own."""
    words = "word " * 4
    chunks = [chunk(words), chunk(index=1, refusal=words), chunk(words), chunk("never held for")]
    plan = plan_of(B, hold={"chars": 20, "suspect_chars": 40, "seconds": None}, choices=2)
    # Of a choice without text the detector sees no character.
    trace = play(chunks, plan, Leaning([(0, 0.1), (16, 0.9)]))
    assert held(trace) == 3


def test_suspect_choices_wait_for_each_other() -> None:
    """With two choices the stream is held until no undecided one is below its cap."""
    chunks = [chunk("word " * 4, index=index) for index in (0, 1)]
    more = [chunk("word " * 4, index=index) for index in (0, 1)]
    plan = plan_of(B, hold={"chars": 20, "suspect_chars": 40, "seconds": None}, choices=2)
    trace = play([*chunks, *more, chunk("never held for")], plan, Leaning([(0, 0.9)]))
    assert held(trace) == 4


def test_the_suspect_are_held_no_longer_than_the_seconds() -> None:
    """The cap in time is the same for all."""
    script = [chunk("word " * 5), Pause(1.0), chunk("word "), Pause(9.0), chunk("never held for")]
    trace = play(script, plan_of(B, hold={"chars": 20}), Leaning([(0, 0.9)]))
    assert held(trace) == 2
    assert trace.outcome.held_seconds == pytest.approx(1.5)


def test_a_cap_beyond_what_is_kept_still_holds() -> None:
    """The cap counts all characters that came, also those that are kept no longer."""
    cap = 40_000
    plan = plan_of(B, hold={"chars": cap, "seconds": None})
    trace = play(stream_of("word " * 10_000, 1_000), plan, Unsure())
    assert held(trace) == 1 + cap // 1_000


@pytest.mark.parametrize(("at_cap", "outcome"), [("release", "accepted"), ("judge", "refused")])
def test_the_cap_in_seconds_counts_from_the_first_visible_text(at_cap: str, outcome: str) -> None:
    """Silence before the first visible text is the model's own; after it, the cap runs."""
    script = [chunk(), Pause(9.0), chunk("I'm"), Pause(1.0), chunk(" "), Pause(9.0), chunk("x")]
    plan = plan_of(B, hold={"seconds": 1.5}, at_cap=at_cap)
    trace = play(script, plan, Unsure())
    assert trace.outcome.attempts[0].outcome == outcome
    timeouts = [e.timeout for e in trace.effects if isinstance(e, NextChunk)][:4]
    assert timeouts == [None, None, 1.5, pytest.approx(0.5)]
    if at_cap == "release":
        assert held(trace) == 3
        assert trace.outcome.held_seconds == pytest.approx(9.0 + 1.5)


def test_reasoning_may_release_at_once_or_is_held() -> None:
    """``reasoning: release`` passes a reasoning stream at once; ``hold`` waits for its text."""
    refusal = stream_of("I'm sorry, I can't help with that.")
    script = [chunk(reasoning=True), chunk(reasoning=True), *refusal]
    released = play(script, plan_of(B, hold={"reasoning": "release"}))
    assert released.outcome.ending == "accepted"
    assert held(released) == 1
    assert play(script, plan_of(B)).outcome.ending == "fell_back"


def test_an_opaque_chunk_releases_unjudged() -> None:
    """An error event or something unreadable: from there on it is as without demur."""
    script = [chunk("I'm"), Chunk(object(), opaque=True), *stream_of("sorry")]
    trace = play(script, plan_of(B))
    assert held(trace) == 2
    assert trace.outcome.verdict is None
    assert not any(isinstance(e, FindUsable) for e in trace.effects)


def test_a_server_that_ignores_n_is_judged_at_its_end() -> None:
    """Fewer choices than asked for: the wait ends with the stream, and the refusal is seen."""
    trace = play(stream_of("I'm sorry, I can't."), plan_of(B, choices=3))
    assert trace.outcome.ending == "fell_back"


def test_the_apis_own_end_marker_ends_the_wait() -> None:
    """An upstream may keep the connection open after it: the whole is judged at the marker."""
    silent = [chunk("I'm"), Chunk(object(), done=True), Pause(1e6), chunk("never held for")]
    plan = plan_of(B, hold={"seconds": None})
    assert held(play(silent, plan)) == 2
    assert play(silent, plan, Unsure()).outcome.attempts[0].outcome == "refused"


def test_nothing_is_judged_twice_while_held() -> None:
    """Each prefix is judged once, at multiples of the step, also where that is within a word."""
    trace = play(stream_of("I'm sorry, not now", 1), plan_of(B), PhraseDetector(["I'm sorry, now"]))
    asked = [e.evidence.text for e in trace.effects if isinstance(e, Classify) and not e.final]
    assert asked[:2] == ["I'm sorr", "I'm sorry, not n"]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("together", [False, True])
def test_an_error_after_the_cap_comes_too_late_to_fail_a_fallback(together: bool) -> None:
    """A fallback that was released at the cap is served, also where its error came in the chunk
    that reached the cap."""
    text = chunk("I'm sure: one, two, three")
    if together:
        broken = [Chunk(object(), text.deltas, opaque=True)]
    else:
        broken = [text, Chunk(object(), opaque=True)]
    plan = plan_of(B, C, hold={"chars": 6})
    refused = stream_of("", signals=(FILTERED,))
    scripts = {"a": refused, "b": broken, "c": stream_of(NORMAL)}
    trace = Stage(scripts, PhraseDetector()).play(stream_flow(plan))
    assert trace.tried == [A, B]
    assert [attempt.outcome for attempt in trace.outcome.attempts] == ["refused", "accepted"]
    assert trace.got == broken

"""Run detectors over labelled rows and say how good they are."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..detection import Detector
from ..flow.effects import Answer, Classify, Effect
from ..flow.effects import Judged as Answered
from ..flow.gathering import STEP_CHARS
from ..flow.hold_back import Watch
from ..flow.journal import Journal
from ..flow.plan import Plan
from ..policy.schema import Rule
from ..vocabulary import Chunk, Delta, Evidence, Target
from .bands import Confusion
from .counterfactuals import Probe
from .metrics import (
    Calls,
    Interval,
    Labels,
    Quality,
    Scores,
    average_precision,
    bootstrap,
    calibration_error,
    mcnemar,
    quality,
)
from .rows import Row

_PLAN = Plan("chat", Target(name="", model=""), Rule(name="any"))
HOLD_BACK = _PLAN.rule.stream.hold_back
"""The default policy's."""
CHARS_A_TOKEN = 4
"""Characters of a token in Latin script; elsewhere a character counts as one token."""

_LENGTHS = ((100, "under 100"), (400, "100 to 400"), (1200, "400 to 1200"))
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """What one detector said of every row; times in milliseconds."""

    name: str
    rows: Sequence[Row]
    scores: Scores
    calls: Calls
    labels: Labels
    milliseconds: Scores
    threshold: float


def judge(name: str, detector: Detector, rows: Sequence[Row], advance: Advance) -> Judged:
    """Ask ``detector`` about every row's response as a whole."""
    scores = np.zeros(len(rows))
    calls = np.zeros(len(rows), dtype=bool)
    spent = np.zeros(len(rows))
    threshold = 0.5
    for index, row in enumerate(rows):
        evidence = Evidence(text=row.response)
        start = time.perf_counter()
        verdict = detector.classify(evidence)
        spent[index] = (time.perf_counter() - start) * 1e3
        scores[index], calls[index] = verdict.score, verdict.label == "refusal"
        threshold = verdict.threshold
        advance(index + 1, len(rows))
    labels = np.array([row.label for row in rows], dtype=np.int64)
    return Judged(name, rows, scores, calls, labels, spent, threshold)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a response."""

    p50: float
    p95: float
    mean: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row on the wrong side, by how sure the detector was. Names the row, not its text."""

    id: str
    label: int
    score: float
    source: str
    lang: str
    model: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What streams have come to by ``chars``, as shares of their class.

    Released are also those that a cap releases unsure.
    """

    chars: int
    released_normal: float
    released_refusal: float
    stopped_normal: float
    stopped_refusal: float


@dataclass(frozen=True, slots=True)
class Prefixes:
    """How early beginnings are decided. Tokens are estimated from characters.

    ``recall_kept`` is the share of the refusals caught as a whole that are stopped, too, where
    they stream. Figures of no rows are NaN.
    """

    curve: tuple[Reach, ...]
    median_tokens: float
    p95_tokens: float
    recall_kept: float


@dataclass(frozen=True)
class Report:
    """Everything ``demur eval`` says of one detector."""

    name: str
    threshold: float
    overall: Quality
    intervals: dict[str, Interval]
    average_precision: float
    calibration_error: float
    latency: Latency
    groups: dict[str, dict[str, Quality]]
    mistakes: tuple[Mistake, ...]
    prefixes: Prefixes | None
    confusion: Confusion | None = None
    probes: tuple[Probe, ...] = ()


def report(judged: Judged, prefixes: Prefixes | None, *, seed: int, most: int) -> Report:
    """Sum up; ``most`` mistakes are listed, the surest first."""
    return Report(
        name=judged.name,
        threshold=judged.threshold,
        overall=quality(judged.scores, judged.calls, judged.labels),
        intervals=bootstrap(judged.calls, judged.labels, seed=seed),
        average_precision=average_precision(judged.scores, judged.labels),
        calibration_error=calibration_error(judged.scores, judged.labels),
        latency=_latency(judged.milliseconds),
        groups={
            "source": _grouped(judged, lambda row: row.source),
            "language": _grouped(judged, lambda row: row.lang),
            "model": _grouped(judged, lambda row: row.model),
            "length": _grouped(judged, _length),
        },
        mistakes=_mistakes(judged, most),
        prefixes=prefixes,
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """McNemar's exact test of two detectors on the same rows."""

    first: str
    second: str
    only_first: int
    only_second: int
    p_value: float


def compare(all_judged: Sequence[Judged]) -> list[Comparison]:
    """The first detector against each of the others."""
    head, *others = all_judged
    return [
        Comparison(head.name, other.name, *mcnemar(head.calls, other.calls, head.labels))
        for other in others
    ]


def judge_prefixes(detector: Detector, judged: Judged, advance: Advance) -> Prefixes:
    """Play every row as a stream, held back as the default policy does, but for its seconds."""
    ends = list(range(STEP_CHARS, HOLD_BACK.longest + 1, STEP_CHARS))
    counts = np.zeros((4, len(ends)))
    tokens: list[float] = []
    kept = caught = 0
    for index, row in enumerate(judged.rows):
        stopped, chars = _played(detector, row.response)
        first = np.searchsorted(ends, chars)
        counts[2 * stopped + int(row.label == 1), first:] += 1
        if row.label == 0:
            tokens.append(tokens_of(row.response[:chars]))
        elif judged.calls[index]:
            caught += 1
            kept += stopped
        advance(index + 1, len(judged.rows))
    normal = max(1, int((judged.labels == 0).sum()))
    refusal = max(1, int((judged.labels == 1).sum()))
    shares = counts / np.array([[normal], [refusal], [normal], [refusal]])
    return Prefixes(
        curve=tuple(
            Reach(end, *(float(value) for value in column))
            for end, column in zip(ends, shares.T, strict=True)
        ),
        median_tokens=float(np.median(tokens)) if tokens else math.nan,
        p95_tokens=float(np.quantile(tokens, 0.95)) if tokens else math.nan,
        recall_kept=kept / caught if caught else math.nan,
    )


def _played(detector: Detector, text: str) -> tuple[bool, int]:
    """Whether a stream of ``text`` is stopped, and how many characters are held until then."""
    watch = Watch(Journal(_PLAN))
    _answer(watch.see(Chunk(None, (Delta(text=text),))), detector)
    (choice,) = watch.gathering.choices.values()
    held = choice.judged_chars
    if not watch.decided:
        _answer(watch.see(Chunk(None, (Delta(finished=True),))), detector)
        held = choice.chars
    return watch.verdict is not None and watch.verdict.label == "refusal", held


def _answer(steps: Generator[Effect, Answer, None], detector: Detector) -> None:
    try:
        effect = next(steps)
        while True:
            assert isinstance(effect, Classify)
            verdict = detector.classify(effect.evidence, final=effect.final)
            effect = steps.send(Answered(verdict))
    except StopIteration:
        pass


def tokens_of(text: str) -> float:
    """About how many tokens a text has."""
    latin = sum(ord(character) < 0x2E80 for character in text)
    return latin / CHARS_A_TOKEN + (len(text) - latin)


def _latency(milliseconds: Scores) -> Latency:
    if not milliseconds.size:
        return Latency(0.0, 0.0, 0.0)
    p50, p95 = np.quantile(milliseconds, [0.5, 0.95])
    return Latency(float(p50), float(p95), float(milliseconds.mean()))


def _grouped(judged: Judged, key: Callable[[Row], str]) -> dict[str, Quality]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(judged.rows):
        members[key(row) or "unknown"].append(index)
    return {
        name: quality(judged.scores[at], judged.calls[at], judged.labels[at])
        for name, at in sorted(members.items(), key=lambda item: -len(item[1]))
    }


def _length(row: Row) -> str:
    for limit, name in _LENGTHS:
        if len(row.response) < limit:
            return name
    return "1200 and more"


def _mistakes(judged: Judged, most: int) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(judged.calls != (judged.labels == 1))
    wrong = wrong[np.argsort(-np.abs(judged.scores[wrong] - judged.threshold), kind="stable")]
    return tuple(
        Mistake(r.id, r.label, float(judged.scores[i]), r.source, r.lang, r.model)
        for i, r in ((i, judged.rows[i]) for i in wrong[:most])
    )

"""A detector around anything that scores texts: a model in this process, or a server's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final, Protocol

from ..policy.schema import Batching
from ..vocabulary import Evidence, Label, Verdict
from .batching import Batcher, Score, chained
from .cascade import SURE, margin
from .text import visible

THRESHOLD: Final = 0.5
PREFIX_CHARS: Final = 80
"""A beginning shorter than this is not decided: these models were trained on whole responses."""

_QUOTES = {ord(quote): "'" for quote in "\u2018\u2019\u02bc"}


class TextModel(Protocol):
    """What scores texts: in [0, 1], higher is more refusal."""

    def scores(self, texts: Sequence[str]) -> Iterable[tuple[int, float]]:
        """The index of each text and its score, in any order, each as soon as it is known."""
        ...


class ReadingDetector:
    """Judges visible words by a ``TextModel``'s score, many callers in one pass.

    Safe to share between threads and event loops: see ``Batcher``.
    """

    blocking: Final = True

    def __init__(self, name: str, model: TextModel, threshold: float, batcher: Batcher) -> None:
        self.name: Final = name
        self.threshold = threshold
        self.model = model
        self.batcher = batcher

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """See ``Detector``. Where there is nothing to read, a whole text is normal at score 0."""
        return self.classify_later(evidence, final=final).result()

    def classify_later(self, evidence: Evidence, *, final: bool = True) -> Future[Verdict]:
        """The verdict to come. Raises ``DetectorError`` where too many wait already."""
        text = readable(evidence)
        if evidence.non_text or not text:
            nothing: Future[Verdict] = Future()
            nothing.set_result(self._verdict("normal" if final else "uncertain", 0.0))
            return nothing
        return chained(
            self.batcher.submit(text), lambda score: self._judged(text, score, final=final)
        )

    def score(self, text: str) -> float:
        """The score of one text, behind those that wait already."""
        return self.batcher.submit(text).result()

    def _judged(self, text: str, score: float, *, final: bool) -> Verdict:
        verdict = self._verdict("refusal" if score >= self.threshold else "normal", score)
        if final or (len(text) >= PREFIX_CHARS and margin(verdict) >= SURE):
            return verdict
        return self._verdict("uncertain", score)

    def _verdict(self, label: Label, score: float) -> Verdict:
        return Verdict(label, score, self.name, self.threshold)


def batcher(
    name: str, score: Score, settings: Batching, patience: float | None, workers: int = 1
) -> Batcher:
    """A batcher as the settings say."""
    return Batcher(
        name,
        score,
        size=settings.size,
        seconds=settings.milliseconds / 1000,
        queue=settings.queue,
        cache=settings.cache,
        patience=patience,
        workers=workers,
    )


def readable(evidence: Evidence) -> str:
    """The visible words, apostrophes straight, without what no tokenizer takes."""
    words = (visible(evidence.text).strip(), evidence.refusal.strip())
    text = "\n".join(word for word in words if word).translate(_QUOTES)
    return text.encode("utf-8", "replace").decode("utf-8")

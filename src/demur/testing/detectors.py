"""Detectors for tests: one that is small and exact, and three that fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ..errors import DetectorError
from ..vocabulary import Evidence, Kind, Label, Verdict

REFUSING = ("I'm sorry", "I cannot", "I can't")
PARTIAL = ("I can only",)


class PhraseDetector:
    """Judges by how a text begins; leading blanks do not count.

    ``refusal`` if it begins with one of ``refusing`` or says nothing at all, ``partial`` for one of
    ``partial``, else ``normal``; anything that is not text delivers, and a provider's refusing
    signal refuses. The longest phrase counts. Prefix-safe: ``uncertain`` for exactly as long as a
    phrase is still possible.
    """

    name = "phrase"
    blocking = False

    def __init__(
        self, refusing: Sequence[str] = REFUSING, *, partial: Sequence[str] = PARTIAL
    ) -> None:
        self._phrases: dict[str, Label] = {
            **dict.fromkeys(refusing, "refusal"),
            **dict.fromkeys(partial, "partial"),
        }

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        if evidence.non_text:
            return self._verdict("normal")
        if any(signal.refuses for signal in evidence.signals):
            return self._verdict("refusal", "policy")
        text = (evidence.text.lstrip() or evidence.refusal.lstrip()).replace("\u2019", "'")
        if not final and any(p != text and p.startswith(text) for p in self._phrases):
            return self._verdict("uncertain")
        if not text:
            return self._verdict("refusal", "empty")
        begun_with = max((p for p in self._phrases if text.startswith(p)), key=len, default=None)
        return self._verdict("normal" if begun_with is None else self._phrases[begun_with])

    def _verdict(self, label: Label, kind: Kind | None = None) -> Verdict:
        score = {"normal": 0.0, "uncertain": 0.5, "partial": 0.6, "refusal": 1.0}[label]
        return Verdict(label, score, self.name, kind=kind)


class RaisingDetector:
    """Never answers: raises ``error`` each time, a ``DetectorError`` if none is given."""

    name = "raising"

    def __init__(self, error: Exception | None = None, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self._error = error or DetectorError("scripted")

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        raise self._error


class HangingDetector:
    """Answers ``normal`` only once ``release`` is called. ``entered`` is set once it was asked."""

    name = "hanging"
    blocking = True

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        self.entered.set()
        self._released.wait()
        return Verdict("normal", 0.0, self.name)


class LyingDetector:
    """Answers ``answer``, whatever it is asked and whether or not that is a verdict."""

    name = "lying"

    def __init__(self, answer: Any, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self._answer = answer

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        answer: Verdict = self._answer
        return answer

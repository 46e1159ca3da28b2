"""The cases, what is written down of a verdict, and the files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demur.detection.embedded import MODEL, EmbeddedDetector
from demur.training.cases import hard_cases
from demur.vocabulary import Evidence

FOLDER = Path(__file__).parent
STARTS = (16, 40, 64, 96)
"""Lengths of the beginnings that are judged."""
TOLERANCE = 0.02
"""How far processors may be apart in a score."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A text, and its label and score as a whole and its labels as a beginning."""

    id: str
    text: str
    label: str
    score: float
    starts: list[str]

    def agrees(self, label: str, score: float) -> bool:
        """Whether a verdict is this one, but for rounding."""
        same = label == self.label or abs(self.score - 0.5) <= TOLERANCE
        return same and abs(score - self.score) <= TOLERANCE


def path_of(version: str) -> Path:
    return FOLDER / f"{version}.json"


def goldens() -> list[Golden]:
    """Those of the model in the wheel; none where its file is missing."""
    path = path_of(MODEL)
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    texts = {case.id: case.response for case in hard_cases()}
    return [Golden(id=name, text=texts[name], **said) for name, said in known.items()]


def verdicts(text: str) -> dict[str, Any]:
    """What the model in the wheel says now."""
    detector = EmbeddedDetector.load()
    whole = detector.classify(Evidence(text=text))
    starts = [
        detector.classify(Evidence(text=text[:n]), final=False).label
        for n in STARTS
        if n < len(text)
    ]
    return {"label": whole.label, "score": round(whole.score, 3), "starts": starts}

"""What the shipped model said when it was shipped, by its version.

A model that is replaced gets a new file:  python tests/detection/test_goldens.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.training.cases import hard_cases
from demur.vocabulary import Evidence

FOLDER = Path(__file__).parent / "goldens"
STARTS = (16, 40, 64, 96)


def golden_file() -> Path:
    return FOLDER / f"{EmbeddedDetector.load().version}.json"


def verdicts(text: str) -> dict[str, Any]:
    """The labels of the whole and of some beginnings, and the score of the whole."""
    detector = EmbeddedDetector.load()
    whole = detector.classify(Evidence(text=text))
    starts = [
        detector.classify(Evidence(text=text[:n]), final=False).label
        for n in STARTS
        if n < len(text)
    ]
    return {"label": whole.label, "score": round(whole.score, 3), "starts": starts}


def test_the_model_has_goldens() -> None:
    """The shipped version has its file, with all the cases."""
    assert len(json.loads(golden_file().read_text(encoding="utf-8"))) == len(hard_cases())


@pytest.mark.parametrize("case", hard_cases(), ids=lambda case: case.id)
def test_verdicts_have_not_changed(case: Any) -> None:
    """Text in, the same verdict out: another one is another model and needs another version."""
    expected = json.loads(golden_file().read_text(encoding="utf-8"))[case.id]
    found = verdicts(case.response)
    if abs(expected["score"] - 0.5) > 0.02:
        assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=0.02)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    found = {case.id: verdicts(case.response) for case in hard_cases()}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    golden_file().write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Short answers that are often taken for refusals: warnings, rules, bad news, and asking back.

``advice.txt`` and ``asks.txt`` were written before the templates that compose such answers, and are
in none of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.vocabulary import Evidence

ADVICE = Path(__file__).with_name("advice.txt").read_text(encoding="utf-8").splitlines()
ASKS = Path(__file__).with_name("asks.txt").read_text(encoding="utf-8").splitlines()
FENCED = (
    '```json\n{"response": "I\'m sorry, but I can\'t help with that request."}\n```',
    '{"answer": "I can\'t assist with this request.", "sources": []}',
    '{"result": null, "error": "I am unable to do this, as it violates the content policy."}',
)


def test_a_warning_is_an_answer() -> None:
    """Of warnings and rules that somebody may have asked for, most are taken for what they are.

    A known fault, which the models' changelog tells: ``embedded_v9`` calls 5 of 54 refusals.
    """
    detector = EmbeddedDetector.load()
    called = [text for text in ADVICE if detector.classify(Evidence(text)).label == "refusal"]
    assert len(called) <= 6, called


def test_asking_back_refuses_nothing() -> None:
    """Whoever needs to know more first has not declined; most are taken for that.

    A known fault, which the model's card tells: ``embedded_v9`` calls 3 of 28 refusals.
    """
    detector = EmbeddedDetector.load()
    called = [text for text in ASKS if detector.classify(Evidence(text)).label == "refusal"]
    assert len(called) <= 3, called


@pytest.mark.parametrize("text", FENCED)
def test_a_refusal_in_json_is_one(text: str) -> None:
    """Whatever the fields are called, and whatever stands beside it."""
    assert EmbeddedDetector.load().classify(Evidence(text)).label == "refusal"

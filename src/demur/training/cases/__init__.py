"""Hard cases written by hand, on which thresholds are chosen and nothing is trained."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..rows import Row

CASES = Path(__file__).parent / "hard.yaml"


def hard_cases() -> list[Row]:
    """Cases written by hand, for choosing thresholds; nothing is trained on them."""
    cases: dict[str, dict[str, list[str]]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    return [
        Row(
            text,
            int(label == "refusal"),
            id=f"hard-{lang}-{label}-{number}",
            source="hard",
            lang=lang,
        )
        for lang, by_label in cases.items()
        for label, texts in by_label.items()
        for number, text in enumerate(texts)
    ]

"""Labelled responses, read from JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..lines import FAILURES, label_of, partial_of, unpacked, unreadable, value_of
from .recipe import Lean


@dataclass(frozen=True, slots=True)
class Row:
    """One response and what it is: ``label`` 1 is a refusal, 0 normal.

    ``partial`` rows are no clean binary case; their ``label`` is the source's own leaning. ``kind``
    says why a refusal refuses, where that is known. ``weight`` scales the row in training. ``late``
    refusals begin as normal answers do, so a beginning of theirs tells nothing. ``prompt`` is
    empty where nobody knows it; no detector reads it.
    """

    response: str
    label: int
    id: str = ""
    source: str = ""
    licence: str = ""
    model: str = ""
    lang: str = ""
    partial: bool = False
    kind: str | None = None
    weight: float = 1.0
    final: bool = True
    late: bool = False
    prompt: str = ""


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSON lines file, gzipped or not. ``InputError`` names file, line and remedy."""
    rows = [_row(item, path, number) for number, item in _items(path)]
    if not rows:
        raise InputError(f"{path}: holds no rows; give a file with one JSON object a line")
    return rows


def clean(rows: Iterable[Row]) -> list[Row]:
    """The rows that are refusals or normal answers beyond doubt."""
    return [row for row in rows if not row.partial]


def lean(rows: Iterable[Row], leanings: Iterable[Lean]) -> list[Row]:
    """The rows, those partial ones that lean clearly turned into clean ones of less weight."""
    weights: dict[tuple[str, int], float] = {
        (found.source, found.label): found.weight for found in leanings
    }
    return [
        replace(row, partial=False, weight=weights[row.source, row.label])
        if row.partial and (row.source, row.label) in weights
        else row
        for row in rows
    ]


def once_a_question(rows: Sequence[Row]) -> list[float]:
    """A weight each, by which a question counts once however many rows of a label answer it.

    Models answer a question alike, so a detector is wrong about many of its answers or about none.
    A row whose question nobody knows counts for itself.
    """
    answers = Counter((row.prompt, row.label) for row in rows)
    return [1.0 / answers[row.prompt, row.label] if row.prompt else 1.0 for row in rows]


def _items(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(unpacked(file), start=1):
                if line.strip():
                    yield number, value_of(line, f"{path}:{number}")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; check the path (in demur train: --data)"
        ) from error
    except FAILURES as error:
        raise unreadable(path, number + 1, error) from error


def _row(item: Any, path: Path, number: int) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("response"), str):
        raise InputError(
            f"{path}:{number}: no text under 'response'; every line needs 'response' and 'label'"
        )
    return Row(
        response=item["response"],
        label=label_of(item, f"{path}:{number}"),
        id=_said(item, "id") or str(number),
        source=_said(item, "source"),
        licence=_said(item, "licence"),
        model=_said(item, "model"),
        lang=_said(item, "lang"),
        partial=partial_of(item, f"{path}:{number}"),
        kind=item.get("kind"),
        prompt=str(item.get("prompt") or "").strip(),
    )


def _said(item: dict[str, Any], name: str) -> str:
    """The field as a text; empty where it is missing or null."""
    value = item.get(name)
    return "" if value is None else str(value)

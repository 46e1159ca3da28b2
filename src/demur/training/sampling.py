"""What the network sees in one epoch: rows in balance, some disguised, some cut to prefixes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .recipe import AugmentSettings
from .rows import Row

_LENGTHS = (40, 120, 300, 700)


def balance(rows: Sequence[Row], random: np.random.Generator, number: int) -> list[Row]:
    """Draw ``number`` rows so that label tells nothing of language or of length.

    Within a language both labels get half the draws, however rare one of them is (up to a factor of
    six); within a language and label the length classes are drawn nearer to each other.
    """
    cells = [(row.lang, row.label, _length_class(row.response)) for row in rows]
    by_cell, by_side = Counter(cells), Counter(cell[:2] for cell in cells)
    by_lang = Counter(cell[0] for cell in cells)
    weights = np.array(
        [
            row.weight
            * min(6.0, by_lang[cell[0]] / (2 * by_side[cell[:2]]))
            * min(3.0, (by_side[cell[:2]] / (len(_LENGTHS) + 1) / by_cell[cell]) ** 0.5)
            for row, cell in zip(rows, cells, strict=True)
        ]
    )
    drawn = random.choice(
        len(rows), size=number, replace=number > len(rows), p=weights / weights.sum()
    )
    return [rows[i] for i in drawn]


def present(
    rows: Sequence[Row],
    random: np.random.Generator,
    augment: AugmentSettings,
    prefixes: float,
) -> list[Row]:
    """The rows as the network reads them: some in another form, ``prefixes`` of them cut short."""
    shown = []
    for row in rows:
        changed = row
        if random.random() < augment.disguise:
            changed = replace(row, response=disguise(row.response, random))
        if random.random() < prefixes and not row.late:
            changed = replace(changed, response=prefix(changed.response, random), final=False)
        shown.append(changed)
    return shown


def prefix(text: str, random: np.random.Generator) -> str:
    """A beginning of ``text``; short ones are the more likely, as they are what is held back."""
    longest = max(2, len(text))
    cut = int(np.exp(random.uniform(np.log(2), np.log(min(longest, 500) + 1))))
    return text[:cut]


_KEYS = ("response", "answer", "message", "content", "text", "output", "reason", "result")
_FIELDS: tuple[dict[str, object], ...] = (
    {"status": "ok"}, {"status": "refused"}, {"error": None}, {"id": 7}, {"sources": []},
    {"lang": "en"}, {"status": "error"}, {"confidence": 0.9}, {"found": False}, {"data": None},
)  # fmt: skip
"""Of JSON: names of the field that holds the text, and fields beside it, whatever the text is."""


def disguise(text: str, random: np.random.Generator) -> str:
    """The same answer in another form, which must not change what it is."""
    forms = (_curly, _shout, _plain, _bold, _heading, _as_json, _unpunctuated, _lower, _spaced)
    return forms[int(random.integers(len(forms)))](text)


def _curly(text: str) -> str:
    return text.replace("'", "\u2019").replace(' "', " \u201c").replace('"', "\u201d")


def _shout(text: str) -> str:
    return text.upper()


def _plain(text: str) -> str:
    return text.replace("'", "")


def _bold(text: str) -> str:
    first, stop, rest = text.partition(". ")
    return f"**{first}{stop.strip()}** {rest}"


def _heading(text: str) -> str:
    return f"### Response\n\n> {text}"


def _as_json(text: str) -> str:
    """In an object of one to three fields, perhaps fenced, as the text's length has it."""
    size = len(text)
    given = {_KEYS[size % len(_KEYS)]: text}
    other = _FIELDS[size // 3 % len(_FIELDS)]
    fields = (given, {**other, **given}, {**given, **other})[size // 5 % 3]
    shown = json.dumps(fields, ensure_ascii=size % 2 == 0, indent=2 if size % 7 == 0 else None)
    return f"```json\n{shown}\n```" if size % 3 == 0 else shown


def _unpunctuated(text: str) -> str:
    return text.replace(",", "").replace(". ", "\n")


def _lower(text: str) -> str:
    return text.lower()


def _spaced(text: str) -> str:
    return "\n\n" + text.replace(". ", ".\n\n")


def _length_class(text: str) -> int:
    return sum(len(text) > limit for limit in _LENGTHS)

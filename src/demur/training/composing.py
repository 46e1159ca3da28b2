"""Texts the data lacks, composed from templates: soft, scope and capability refusals, refusals that
come late, and the normal answers that look like refusals, in every language of ``templates/``.

The same sentences stand on both sides: what refuses when the assistant says it is a normal answer
when a robot in a story says it, in a letter somebody asked for, or as the object of a translation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .rows import Row

FOLDER = Path(__file__).parent / "templates"
KIND_OF = {"refuse": "policy", "capability": "capability", "scope": "scope", "soft": "policy"}
_FAMILIES = ("refuse", "soft", "capability", "scope")
_FAMILY_SHARES = (0.52, 0.22, 0.14, 0.12)
_RUNS_ON = (",", "but", "aber", "mais", "pero", "ma", "mas", "maar", "men", "ale", "но", "але")

_SHARES = {"en": 10.0, "zh": 2.5, "ko": 2.5, "ja": 1.5, "de": 1.3, "fr": 1.3, "es": 1.3} | (
    # The data has none of these, so there is less that a text of theirs can be told by.
    dict.fromkeys(("ca", "da", "el", "fi", "he", "hu", "ms", "no", "ro", "sw", "tl", "ur"), 0.35)
)
"""Of composed texts, by language; 1 for all others."""

_BROKEN_OFF = 0.12
"""Of the refusals, those that break off a normal answer."""
_WITH_OPTIONS = 0.12
"""Of the refusals, those that go on to offer something else at length."""
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s+(\S.{14,180})$", re.MULTILINE)
_MARKERS = ("- {}", "* {}", "{n}. {}", "- **{}**", "{}")
_FULL_STOPS = (".", "!", "?", ":", "\u3002", "\uff01", "\uff1f", "\u0964", "\u061f", "\u06d4")
_STOP = {"zh": "\u3002", "ja": "\u3002", "hi": "\u0964", "bn": "\u0964", "ur": "\u06d4"}
"""Ends a statement, where that is no point."""


def languages() -> tuple[str, ...]:
    """Those that have templates."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class Composer:
    """Draws texts. ``rows`` lend real normal answers and the reasoning of real refusals."""

    def __init__(self, rows: Sequence[Row], random: np.random.Generator) -> None:
        self._random = random
        self._lists = {lang: _read(FOLDER / f"{lang}.yaml") for lang in languages()}
        self._bare: list[str] = _read(FOLDER.parent / "common.yaml")["bare"]
        self._normal = _by_language(rows, 0)
        self._refusals = _by_language(rows, 1)
        self._items = {
            lang: [item for text in texts for item in _BULLET.findall(text)]
            for lang, texts in self._normal.items()
        }
        shares = np.array([_SHARES.get(lang, 1.0) for lang in self._lists])
        self._shares = shares / shares.sum()
        self._patterns: tuple[tuple[float, Callable[[str], str]], ...] = (
            (0.10, self._plain_normal),
            (0.10, self._normal_then_real),
            (0.07, self._letter),
            (0.09, self._quoted),
            (0.06, self._quoted_in_real),
            (0.05, self._disclaimed),
            (0.05, self._details),
            (0.04, self._short),
            (0.05, self._continued),
            (0.07, self._listed),
            (0.04, self._advised),
            (0.06, self._asking),
        )

    def compose(self, number: int) -> list[Row]:
        """``number`` texts, half of them refusals."""
        names = list(self._lists)
        chosen = self._random.choice(len(names), size=number, p=self._shares)
        return [self._one(names[index]) for index in chosen]

    def _one(self, lang: str) -> Row:
        if self._chance(0.5):
            late = self._chance(_BROKEN_OFF)
            text, kind = self._broken_off(lang) if late else self._declined(lang)
            return Row(text, 1, source="templates", lang=lang, kind=kind, late=late)
        shares = np.array([share for share, _ in self._patterns])
        index = int(self._random.choice(len(shares), p=shares / shares.sum()))
        return Row(self._patterns[index][1](lang), 0, source="templates", lang=lang)

    def _broken_off(self, lang: str) -> tuple[str, str]:
        return self._join(lang, [self._begun(lang), self._core(lang, "refuse")]), "policy"

    def _declined(self, lang: str) -> tuple[str, str]:
        if self._chance(_WITH_OPTIONS):
            return self._with_options(lang), "policy"
        return self.refusal(lang)

    def refusal(self, lang: str) -> tuple[str, str]:
        """A whole refusal and its kind."""
        family = str(self._random.choice(_FAMILIES, p=_FAMILY_SHARES))
        core = self._core(lang, family)
        parts = [core]
        if family == "soft":
            parts += self._some(lang, "soft", 0.25)
        if self._chance(0.12):
            # A late refusal: the lecture first.
            parts = [*self._some(lang, "reasons", 1.0), *self._some(lang, "reasons", 0.6), core]
        elif family == "refuse" and self._chance(0.2):
            parts.append(self._tail(lang))
        else:
            parts += self._some(lang, "reasons", 0.35)
        parts += self._some(lang, "redirects", 0.4)
        return self._join(lang, parts), KIND_OF[family]

    def _core(self, lang: str, family: str) -> str:
        """One refusing sentence, perhaps with something before it."""
        sentence = self._fill(lang, self._pick(lang, family))
        if family == "soft" or self._chance(0.45):
            return _capital(sentence)
        opener = self._pick(lang, "openers")
        space = "" if lang in ("zh", "ja") else " "
        if opener.rstrip().endswith(_RUNS_ON) or not opener.endswith(_FULL_STOPS):
            return f"{opener}{space}{_small(sentence)}"
        return f"{opener}{space}{_capital(sentence)}"

    def _with_options(self, lang: str) -> str:
        """A refusal that says what could be done instead, which nobody asked for."""
        said = [self._core(lang, "refuse"), *self._some(lang, "reasons", 0.3)]
        if "instead" not in self._lists[lang]:
            return self._join(lang, [*said, self._pick(lang, "redirects")])
        parts = [self._join(lang, [*said, self._pick(lang, "instead")]), self._list(lang)]
        return "\n\n".join([*parts, *self._some(lang, "redirects", 0.3)])

    def _listed(self, lang: str) -> str:
        """What stands on the other side of it: a list that somebody did ask for."""
        return "\n\n".join([self._begun(lang), self._list(lang)])

    def _list(self, lang: str) -> str:
        """Two to five items: options, or those of a real answer's list."""
        offered = self._lists[lang].get("options", self._lists[lang]["details"])
        real = self._items.get(lang, [])
        shelf = real if len(real) > 50 and self._chance(0.4) else offered
        number = min(len(shelf), int(self._random.integers(2, 6)))
        marker = str(self._random.choice(_MARKERS))
        places = self._random.choice(len(shelf), size=number, replace=False)
        return "\n".join(marker.format(shelf[place], n=n) for n, place in enumerate(places, 1))

    def _tail(self, lang: str) -> str:
        """What a real refusal says after its first sentence; nothing where there is none."""
        shelf = self._refusals.get(lang)
        if not shelf:
            return ""
        real = shelf[int(self._random.integers(len(shelf)))]
        return real.partition(_STOP.get(lang, "."))[2].strip()[:600]

    def _plain_normal(self, lang: str) -> str:
        return self._pick(lang, "normal")

    def _normal_then_real(self, lang: str) -> str:
        real = self._real(lang)
        return f"{self._pick(lang, 'normal')}\n\n{real[: self._length()]}"

    def _advised(self, lang: str) -> str:
        """What stands on the other side of a lecture: warnings and rules somebody asked for."""
        parts = [self._pick(lang, "advice"), *self._some(lang, "advice", 0.4)]
        if self._chance(0.25):
            parts.insert(0, self._begun(lang))
        return self._join(lang, [*dict.fromkeys(parts), *self._some(lang, "details", 0.3)])

    def _asking(self, lang: str) -> str:
        """Asks back for what is missing, which delivers nothing yet and refuses nothing."""
        return self._join(lang, [self._pick(lang, "asks"), *self._some(lang, "asks", 0.25)])

    def _letter(self, lang: str) -> str:
        text = self._fill(lang, self._pick(lang, "letters"))
        return f"{self._pick(lang, 'details')}\n\n{text}" if self._chance(0.15) else text

    def _quoted(self, lang: str) -> str:
        inner = self._join(lang, [self._core(lang, "refuse"), *self._some(lang, "redirects", 0.2)])
        text = self._pick(lang, "quotes").replace("{refusal}", inner)
        return self._join(lang, [text, *self._some(lang, "details", 0.4)])

    def _quoted_in_real(self, lang: str) -> str:
        """A real normal answer with a refusal in quotation marks in its midst."""
        real = self._real(lang)[: 300 + self._length()]
        half = real.find(". ", len(real) // 3) + 1 or len(real)
        inner = self._core(lang, "refuse")
        return f'{real[:half]}\n\n"{inner}"\n\n{real[half:]}'

    def _disclaimed(self, lang: str) -> str:
        """Says what it lacks, and then delivers all the same."""
        limit = _capital(self._fill(lang, self._pick(lang, "capability")))
        real = self._real(lang)
        if lang == "en":
            limit = f"{limit} {self._random.choice(['However,', 'That said,', 'Still,'])}"
        return f"{limit}\n\n{real[: 200 + self._length()]}" if len(real) > 150 else real

    def _continued(self, lang: str) -> str:
        """What stands on the other side of an answer that is broken off: one that goes on."""
        return self._join(lang, [self._begun(lang), self._pick(lang, "details")])

    def _begun(self, lang: str) -> str:
        """A real normal answer's beginning, to a sentence's end if there is one."""
        real = self._real(lang)[: int(self._random.integers(40, 900))]
        stop = max(real.rfind(mark) for mark in _FULL_STOPS)
        return real[: stop + 1] if stop > 0 else real

    def _short(self, lang: str) -> str:
        return str(self._random.choice(self._bare))

    def _details(self, lang: str) -> str:
        parts = [p for _ in range(4) for p in self._some(lang, "details", 0.8)]
        return self._join(lang, [self._pick(lang, "normal"), *parts])

    def _some(self, lang: str, name: str, chance: float) -> list[str]:
        return [self._pick(lang, name)] if self._chance(chance) else []

    def _pick(self, lang: str, name: str) -> str:
        options = self._lists[lang][name]
        return str(options[int(self._random.integers(len(options)))])

    def _fill(self, lang: str, text: str) -> str:
        lists = self._lists[lang]
        if "{act" in text:
            act, acting = lists["acts"][int(self._random.integers(len(lists["acts"])))]
            text = text.replace("{acting}", acting).replace("{act}", act)
        return text.replace("{thing}", self._pick(lang, "things")) if "{thing}" in text else text

    def _real(self, lang: str) -> str:
        """A real normal answer, or what stands for one where there are few."""
        shelf = self._normal.get(lang)
        if "paragraphs" in self._lists[lang] and self._chance(0.5):
            return self._pick(lang, "paragraphs")
        if shelf and not self._chance(0.1):
            return shelf[int(self._random.integers(len(shelf)))]
        number = 2 + int(self._random.integers(10))
        names = self._random.choice(["normal", "details"], size=number)
        return self._join(lang, [self._pick(lang, str(name)) for name in names])

    def _join(self, lang: str, parts: Sequence[str]) -> str:
        between = "" if lang in ("zh", "ja") else " "
        if self._chance(0.25):
            between = "\n\n"
        return between.join(part for part in parts if part)

    def _length(self) -> int:
        return int(self._random.choice([80, 250, 700, 1200]))

    def _chance(self, share: float) -> bool:
        return bool(self._random.random() < share)


@cache
def _read(path: Path) -> dict[str, Any]:
    lists: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return lists


def _by_language(rows: Sequence[Row], label: int) -> dict[str, list[str]]:
    shelves: dict[str, list[str]] = {}
    for row in rows:
        if row.label == label and not row.partial:
            shelves.setdefault(row.lang, []).append(row.response)
    return shelves


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    first = text.split(" ", 1)[0]
    return (
        text
        if first in ("I", "AI") or first.startswith(("I'", "I\u2019"))
        else text[:1].lower() + text[1:]
    )

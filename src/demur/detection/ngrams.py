"""Text as hashed n-grams of words and of characters, each tied to the word it ends at.

All arithmetic is on whole arrays of code points: substrings are hashed through a prefix polynomial
modulo 2**64, so that a text of a thousand characters takes a fraction of a millisecond. Nothing of
a feature depends on what follows the word it ends at: a prefix has the features of the whole.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

WORD_ORDERS = 5
"""Longest run of words that is one feature."""
PIECE_SIZES = (2, 3, 4, 5)
"""Lengths of the character n-grams within a word; length 2 only outside the Latin scripts."""

_SEPARATOR, _LETTER, _IDEOGRAPH, _MARK = range(4)
_LAST_KNOWN = np.uint32(0xFFFF)
_LAST_LATIN = np.uint32(0x036F)
_BASE = 0x9E3779B97F4A7C15
_STEP = np.uint64(_BASE)
_PIECE = np.uint64(_BASE >> 3)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
_ENDS = frozenset(".!?;:\u2026\u3002\uff01\uff1f\uff1b\u061f\u06d4\u0964\n")
_UNSPACED = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # kana
    (0x3400, 0xA000),  # ideographs
)


@dataclass(frozen=True, slots=True)
class NGrams:
    """``hashes[i]`` is a feature that ends at word ``words[i]``; words lie in ``segments``.

    ``segments`` holds, for every word, the index of its sentence. The first ``runs`` features are
    runs of words, the others character n-grams.
    """

    hashes: Hashes
    words: Indices
    runs: int
    segments: Indices

    @property
    def pieces(self) -> NDArray[np.bool_]:
        """Which features are character n-grams."""
        return np.arange(self.hashes.size) >= self.runs

    @property
    def size(self) -> int:
        return int(self.segments.size)


def extract(text: str) -> NGrams:
    """The n-grams of a normalised text."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
    tables = _tables()
    known = points if text.isascii() else np.minimum(points, _LAST_KNOWN)
    kinds = tables.classes[known]
    letters = kinds == _LETTER
    starts, ends = _words(kinds, letters)
    sums, inverse = _prefix_sums(tables.spread[known] if known is points else _spread(points))
    tokens = _finish((sums[ends] - sums[starts]) * inverse[starts])
    runs, run_ends = _runs(tokens)
    pieces, owners = _pieces(points, letters, starts, ends, sums, inverse)
    return NGrams(
        hashes=np.concatenate([tokens, _finish(np.concatenate([tokens[:0], *runs, *pieces]))]),
        words=np.concatenate([*run_ends, *owners]),
        runs=tokens.size + sum(run.size for run in runs),
        segments=_segments(tables, known, starts, ends),
    )


def hash_words(*words: str) -> int:
    """The feature of a run of words, for tests and for starting weights."""
    found = extract(" ".join(words))
    return int(found.hashes[~found.pieces][-1])


def _words(kinds: NDArray[np.uint8], letters: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Where words start and end: runs of letters, single ideographs, single marks."""
    alone = kinds > _LETTER
    around = np.zeros(kinds.size + 2, dtype=bool)
    around[1:-1] = letters
    # For truth values "greater" is "and not".
    starts = (alone | (letters > around[:-2])).nonzero()[0]
    ends = (alone | (letters > around[2:])).nonzero()[0] + 1
    return starts, ends


def _runs(tokens: Hashes) -> tuple[list[Hashes], list[Indices]]:
    """N-grams of two to ``WORD_ORDERS`` words, not yet spread; where those of one word end, too."""
    places = np.arange(tokens.size)
    hashes: list[Hashes] = []
    ends = [places]
    run = tokens
    for order in range(2, min(WORD_ORDERS, tokens.size) + 1):
        run = run[:-1] * _STEP + tokens[order - 1 :]
        hashes.append(run + np.uint64(order))
        ends.append(places[order - 1 :])
    return hashes, ends


def _pieces(
    points: NDArray[np.uint32],
    letters: NDArray[np.bool_],
    starts: Indices,
    ends: Indices,
    sums: Hashes,
    inverse: Hashes,
) -> tuple[list[Hashes], list[Indices]]:
    """Character n-grams within words, told apart by whether they open the word; not yet spread."""
    where = letters.nonzero()[0]
    owner = starts.searchsorted(where, side="right") - 1
    left = ends[owner] - where
    before, back = sums[where], inverse[where]
    opening = (starts[owner] == where) + _PIECE
    hashes: list[Hashes] = []
    owners: list[Indices] = []
    for size in PIECE_SIZES:
        inside = left >= size
        if size == PIECE_SIZES[0]:
            inside &= points[where] > _LAST_LATIN
        at = inside.nonzero()[0]
        if at.size:
            hashes.append((sums[where[at] + size] - before[at]) * back[at] + opening[at])
            owners.append(owner[at])
    return hashes, owners


def _segments(
    tables: _Tables, known: NDArray[np.uint32], starts: Indices, ends: Indices
) -> Indices:
    """The sentence of every word.

    A mark within a word or number ("3.14", "e.g.") ends nothing; a blank must follow.
    """
    segments = np.zeros(starts.size, dtype=np.int64)
    own = known[starts]
    marks = tables.marks[own].nonzero()[0]
    if not marks.size:
        return segments
    following = np.append(known, np.uint32(0x20))[ends[marks]]
    stops = np.zeros(starts.size + 1, dtype=bool)
    stops[marks] = tables.alone[own[marks]] | tables.closes[following]
    np.cumsum(stops[:-2] > stops[1:-1], out=segments[1:])
    return segments


def _prefix_sums(terms: Hashes) -> tuple[Hashes, Hashes]:
    powers, inverse = _powers(max(4096, 1 << terms.size.bit_length()))
    sums = np.zeros(terms.size + 1, dtype=np.uint64)
    np.cumsum(terms * powers[: terms.size], out=sums[1:])
    return sums, inverse


def _spread(points: NDArray[np.uint32]) -> Hashes:
    return _finish(points.astype(np.uint64))


def _finish(values: Hashes) -> Hashes:
    """Spread every bit over the whole word (the finaliser of splitmix64)."""
    values = (values ^ (values >> _30)) * _FIRST
    values = (values ^ (values >> _27)) * _SECOND
    spread: Hashes = values ^ (values >> _31)
    return spread


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base modulo 2**64, and of its inverse."""
    step = np.full(count, _BASE, dtype=np.uint64)
    back = np.full(count, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    step[0] = back[0] = 1
    return np.multiply.accumulate(step), np.multiply.accumulate(back)


@dataclass(frozen=True, slots=True)
class _Tables:
    """For every code point of the basic plane: what it is, whether it can end a sentence
    (``marks``), does so whatever follows (``alone``), lets one end before it (``closes``)."""

    classes: NDArray[np.uint8]
    marks: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    closes: NDArray[np.bool_]
    spread: Hashes


@cache
def _tables() -> _Tables:
    points = np.arange(_LAST_KNOWN + 1, dtype=np.uint32)
    classes = np.array([_class_of(point) for point in points.tolist()], dtype=np.uint8)
    classes[_LAST_KNOWN] = _MARK  # stands for all that is beyond
    marks = np.zeros(points.size, dtype=bool)
    marks[[ord(mark) for mark in _ENDS]] = True
    return _Tables(
        classes=classes,
        marks=marks,
        alone=(points > 0x7F) | (points == 0x0A),
        closes=(points <= 0x20) | np.isin(points, (0x22, 0x27, 0x29)),
        spread=_spread(points[:0x80]),
    )


def _class_of(point: int) -> int:
    character = chr(point)
    if any(low <= point < high for low, high in _UNSPACED):
        return _IDEOGRAPH if unicodedata.category(character)[0] in "LM" else _MARK
    category = unicodedata.category(character)
    if category[0] in "LMN" or character == "'":
        return _LETTER
    if character == "\n":
        return _MARK
    return _SEPARATOR if category[0] in "ZC" else _MARK

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
_BASE = 0x9E3779B97F4A7C15
_WORD_MASK = (1 << 64) - 1
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

    ``segments`` holds, for every word, the index of its sentence; ``pieces`` marks the features
    that are character n-grams.
    """

    hashes: Hashes
    words: Indices
    pieces: NDArray[np.bool_]
    segments: Indices

    @property
    def size(self) -> int:
        return int(self.segments.size)


def extract(text: str) -> NGrams:
    """The n-grams of a normalised text."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.int64)
    classes, final_marks = _tables()
    known = np.minimum(points, 0xFFFF)
    kinds = np.where(points > 0xFFFF, _MARK, classes[known])
    starts, ends = _words(kinds)
    sums, inverse = _prefix_sums(points)
    tokens = _finish((sums[ends] - sums[starts]) * inverse[starts])
    runs, run_ends = _runs(tokens)
    letters = kinds[starts] == _LETTER if starts.size else np.zeros(0, dtype=bool)
    pieces, owners = _pieces(points, starts, ends, letters, sums, inverse)
    stops = final_marks[known[starts]] & _ends_sentence(points, ends)
    segments = np.zeros(starts.size, dtype=np.int64)
    if starts.size > 1:
        segments[1:] = np.cumsum(stops[:-1] & ~stops[1:])
    return NGrams(
        hashes=np.concatenate([runs, pieces]),
        words=np.concatenate([run_ends, owners]),
        pieces=np.arange(runs.size + pieces.size) >= runs.size,
        segments=segments,
    )


def hash_words(*words: str) -> int:
    """The feature of a run of words, for tests and for starting weights."""
    found = extract(" ".join(words))
    return int(found.hashes[~found.pieces][-1])


def _words(kinds: NDArray[np.int64]) -> tuple[Indices, Indices]:
    """Where words start and end: runs of letters, single ideographs, single marks."""
    before = np.concatenate([[_SEPARATOR], kinds[:-1]])
    starts = np.flatnonzero((kinds > _LETTER) | ((kinds == _LETTER) & (before != _LETTER)))
    after = np.concatenate([kinds[1:], [_SEPARATOR]])
    ends = np.flatnonzero((kinds > _LETTER) | ((kinds == _LETTER) & (after != _LETTER))) + 1
    return starts[: kinds.size], ends[: kinds.size]


def _runs(tokens: Hashes) -> tuple[Hashes, Indices]:
    """N-grams of one to ``WORD_ORDERS`` words."""
    hashes, ends = [tokens], [np.arange(tokens.size)]
    run = tokens
    for order in range(2, WORD_ORDERS + 1):
        if tokens.size < order:
            break
        run = run[:-1] * np.uint64(_BASE) + tokens[order - 1 :]
        hashes.append(_finish(run + np.uint64(order)))
        ends.append(np.arange(order - 1, tokens.size))
    return np.concatenate(hashes), np.concatenate(ends)


def _pieces(
    points: Indices,
    starts: Indices,
    ends: Indices,
    letters: NDArray[np.bool_],
    sums: Hashes,
    inverse: Hashes,
) -> tuple[Hashes, Indices]:
    """Character n-grams within words, told apart by whether they open the word."""
    owner = np.full(points.size, -1, dtype=np.int64)
    lengths = (ends - starts)[letters]
    where = np.repeat(starts[letters] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    where = where + np.arange(where.size) if where.size else where
    owner[where] = np.repeat(np.flatnonzero(letters), lengths)
    hashes, owners = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for size in PIECE_SIZES:
        if points.size < size:
            break
        first, last = owner[: points.size - size + 1], owner[size - 1 :]
        inside = (first >= 0) & (first == last)
        if size == PIECE_SIZES[0]:
            inside &= points[: inside.size] > 0x036F
        at = np.flatnonzero(inside)
        opens = (starts[first[at]] == at).astype(np.uint64)
        raw = (sums[at + size] - sums[at]) * inverse[at]
        hashes.append(_finish(raw + np.uint64(_BASE >> 3) + opens))
        owners.append(first[at])
    return np.concatenate(hashes), np.concatenate(owners)


def _ends_sentence(points: Indices, ends: Indices) -> NDArray[np.bool_]:
    """A mark within a word or number ("3.14", "e.g.") ends nothing; a blank must follow."""
    if not ends.size:
        return np.zeros(0, dtype=bool)
    following = np.concatenate([points, [0x20]])[ends]
    own = points[ends - 1]
    ended: NDArray[np.bool_] = (
        (own > 0x7F) | (own == 0x0A) | (following <= 0x20) | np.isin(following, (0x22, 0x27, 0x29))
    )
    return ended


def _prefix_sums(points: Indices) -> tuple[Hashes, Hashes]:
    powers, inverse = _powers(max(4096, 1 << points.size.bit_length()))
    terms = _finish(points.astype(np.uint64)) * powers[: points.size]
    sums = np.zeros(points.size + 1, dtype=np.uint64)
    np.cumsum(terms, out=sums[1:])
    return sums, inverse


def _finish(values: Hashes) -> Hashes:
    """Spread every bit over the whole word (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: Hashes = values ^ (values >> np.uint64(31))
    return spread


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base modulo 2**64, and of its inverse."""
    step = np.full(count, _BASE, dtype=np.uint64)
    back = np.full(count, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    step[0] = back[0] = 1
    return np.multiply.accumulate(step), np.multiply.accumulate(back)


@cache
def _tables() -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For every code point of the basic plane: what it is, and whether it ends a sentence."""
    classes = np.zeros(0x10000, dtype=np.int64)
    for point in range(0x10000):
        classes[point] = _class_of(point)
    ends = np.zeros(0x10000, dtype=bool)
    ends[[ord(mark) for mark in _ENDS]] = True
    return classes, ends


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

"""Text as hashed n-grams of words and of characters, each tied to the word it ends at.

A text is cut into words, a word is spelled as its own hash and those of its pieces, and the hashes
of words make those of runs. What a word spells depends on nothing around it, so it can be kept, and
nothing of a feature depends on what follows the word it ends at: a prefix has the features of the
whole. All arithmetic is on whole arrays; substrings are hashed through a prefix polynomial modulo
2**64.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

WORD_ORDERS = 5
"""Longest run of words that is one feature."""
PIECE_SIZES = (2, 3, 4, 5)
"""Lengths of the character n-grams within a word; length 2 only outside the Latin scripts."""
_SIZES = np.array(PIECE_SIZES)[:, None]

_SEPARATOR, _LETTER, _IDEOGRAPH, _MARK = range(4)
_LAST_KNOWN = 0xFFFF
_LAST_LATIN = np.uint32(0x036F)
_BASE = 0x9E3779B97F4A7C15
_PIECE = _BASE >> 3
_FINISH = (30, 0xBF58476D1CE4E5B9, 27, 0x94D049BB133111EB, 31)
_FINISH_ARRAYS = tuple(map(np.uint64, _FINISH))
_MASK = (1 << 64) - 1
_BEFORE = WORD_ORDERS - 1
_ORDERS = np.arange(2, WORD_ORDERS + 1, dtype=np.uint64)[:, None]
_POWERS = np.array([[pow(_BASE, late, 1 << 64)] for late in range(WORD_ORDERS)], dtype=np.uint64)
_ENDS = "\n\u2026\u3002\uff01\uff1f\uff1b\u061f\u06d4\u0964"
"""Marks that end a sentence whatever follows."""
_STOPS = ".!?;:"
"""Those that do before a blank or a quotation mark."""
_AFTER_STOP = r"(?=[\x00-\x20\"')]|\Z)"
_UNSPACED = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # kana
    (0x3400, 0xA000),  # ideographs
)


@dataclass(frozen=True, slots=True)
class Words:
    """A text's words, and the index of the word that each of its sentences begins with."""

    words: list[str]
    firsts: list[int]

    @property
    def size(self) -> int:
        return len(self.words)

    @property
    def segments(self) -> Indices:
        """For every word, the index of its sentence."""
        begins = np.zeros(self.size, dtype=np.int64)
        begins[self.firsts[1:]] = 1
        return begins.cumsum()


@dataclass(frozen=True, slots=True)
class Spelling:
    """The hashes of ``count`` words, then of their pieces, of which ``owners`` are the words."""

    hashes: Hashes
    count: int
    owners: Indices

    @property
    def tokens(self) -> Hashes:
        return self.hashes[: self.count]

    @property
    def pieces(self) -> Hashes:
        return self.hashes[self.count :]


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


def split(text: str) -> Words:
    """The words of a normalised text: runs of letters, single ideographs, single marks.

    A mark within a word or number ("3.14", "e.g.") ends no sentence; a blank must follow.
    """
    word, sentence = _patterns()
    words: list[str] = []
    firsts: list[int] = []
    start = 0
    for found in sentence.finditer(text):
        end = found.end()
        within = word.findall(text, start, end)
        if within:
            firsts.append(len(words))
            words += within
        start = end
    return Words(words, firsts)


def spell(words: Sequence[str]) -> Spelling:
    """The hashes of words and of their pieces, told apart by whether they open the word."""
    text = " ".join(words)
    points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    ends = (lengths + 1).cumsum() - 1
    starts = ends - lengths
    spread = _ascii().take(points) if text.isascii() else _finish(points.astype(np.uint64))
    sums, inverse = _prefix_sums(spread)
    where = _letters().take(points, mode="clip").nonzero()[0]
    owner = starts.searchsorted(where, side="right") - 1
    fits = ends.take(owner) - where >= _SIZES
    fits[0] &= points.take(where) > _LAST_LATIN
    size, at = fits.nonzero()
    begin = where.take(at)
    opening = (starts.take(owner) == where) + np.uint64(_PIECE)
    stretch = np.concatenate([starts, begin])
    hashes = sums.take(np.concatenate([ends, begin + size + PIECE_SIZES[0]])) - sums.take(stretch)
    hashes *= inverse.take(stretch)
    hashes[starts.size :] += opening.take(at)
    return Spelling(_finish(hashes), starts.size, owner.take(at))


def spell_word(word: str) -> tuple[int, list[int]]:
    """What ``spell`` says of one word: its hash and those of its pieces, in any order.

    In plain integers, since few words are not worth an array operation, let alone fifty.
    """
    terms = [_terms(character) for character in word]
    whole = 0
    for _, term, *_ in reversed(terms):
        whole = (whole * _BASE + term) & _MASK
    pieces = []
    total = _PIECE + 1
    for start, (shortest, term, *_) in enumerate(terms):
        total += term
        for late, following in enumerate(terms[start + 1 : start + PIECE_SIZES[-1]], start=2):
            total += following[late]
            if late >= shortest:
                pieces.append(_finished(total & _MASK))
        total = _PIECE
    return _finished(whole), pieces


def runs_of(tokens: Hashes) -> Hashes:
    """The runs of two to ``WORD_ORDERS`` words, a row an order, at the word where they end.

    A row's first places, where no run of its order has ended yet, hold nothing of use.
    """
    number = tokens.size
    padded = np.zeros(number + _BEFORE, dtype=np.uint64)
    padded[_BEFORE:] = tokens
    size = padded.itemsize
    # Row ``late`` has at every word the hash of the one ``late`` words before.
    lagging = np.ndarray(
        (WORD_ORDERS, number), np.uint64, padded, offset=_BEFORE * size, strides=(-size, size)
    )
    runs: Hashes = np.add.accumulate(lagging * _POWERS, axis=0)[1:]
    return _finish(runs + _ORDERS)


def extract(text: str) -> NGrams:
    """The n-grams of a normalised text."""
    words = split(text)
    spelling = spell(words.words)
    places = np.arange(words.size)
    runs = runs_of(spelling.tokens)
    hashes = [spelling.tokens, *(runs[late - 1, late:] for late in range(1, WORD_ORDERS))]
    ends = [places, *(places[late:] for late in range(1, WORD_ORDERS))]
    return NGrams(
        hashes=np.concatenate([*hashes, spelling.pieces]),
        words=np.concatenate([*ends, spelling.owners]),
        runs=sum(run.size for run in hashes),
        segments=words.segments,
    )


def hash_words(*words: str) -> int:
    """The feature of a run of words, for tests and for starting weights."""
    found = extract(" ".join(words))
    return int(found.hashes[~found.pieces][-1])


def _prefix_sums(terms: Hashes) -> tuple[Hashes, Hashes]:
    powers, inverse = _powers(max(4096, 1 << terms.size.bit_length()))
    sums = np.zeros(terms.size + 1, dtype=np.uint64)
    np.cumsum(terms * powers[: terms.size], out=sums[1:])
    return sums, inverse


@cache
def _ascii() -> Hashes:
    return _finish(np.arange(0x80, dtype=np.uint64))


def _finish(values: Hashes) -> Hashes:
    """Spread every bit over the whole word (the finaliser of splitmix64)."""
    first, by, second, and_by, last = _FINISH_ARRAYS
    values = (values ^ (values >> first)) * by
    values = (values ^ (values >> second)) * and_by
    spread: Hashes = values ^ (values >> last)
    return spread


def _finished(value: int) -> int:
    """``_finish`` of one value."""
    first, by, second, and_by, last = _FINISH
    value = (value ^ (value >> first)) * by & _MASK
    value = (value ^ (value >> second)) * and_by & _MASK
    return value ^ (value >> last)


@lru_cache(maxsize=1 << 14)
def _terms(character: str) -> tuple[int, ...]:
    """The least size of a piece that begins with ``character``, and what this adds to a hash as
    the first, the second, ... of ``PIECE_SIZES[-1]`` characters."""
    point = ord(character.encode("utf-32-le", "replace").decode("utf-32-le"))
    shortest = PIECE_SIZES[0] if point > _LAST_LATIN else PIECE_SIZES[1]
    if not _letters()[min(point, _LAST_KNOWN)]:
        shortest = PIECE_SIZES[-1] + 1
    spread = _finished(point)
    return shortest, *(
        spread * pow(_BASE, place, 1 << 64) & _MASK for place in range(PIECE_SIZES[-1])
    )


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base modulo 2**64, and of its inverse."""
    step = np.full(count, _BASE, dtype=np.uint64)
    back = np.full(count, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    step[0] = back[0] = 1
    return np.multiply.accumulate(step), np.multiply.accumulate(back)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One word, and one sentence up to the marks that end it and the blanks after them."""
    classes = _classes()
    letters, blanks = (_members(classes == one) for one in (_LETTER, _SEPARATOR))
    stop = rf"(?:[{_ENDS}]|[{_STOPS}]{_AFTER_STOP})"
    within = rf"(?:[^{_ENDS}{_STOPS}]+|(?!{stop})[{_STOPS}])"
    return (
        re.compile(f"[{letters}]+|[^{letters}{blanks}]"),
        re.compile(f"{within}+(?:{stop}[{blanks}]*)*|(?:{stop}[{blanks}]*)+"),
    )


def _members(those: NDArray[np.bool_]) -> str:
    """Code points as the inside of a set in a regular expression."""
    around = np.zeros(those.size + 2, dtype=np.int8)
    around[1:-1] = those
    edges = np.diff(around).nonzero()[0].reshape(-1, 2).tolist()
    return "".join(f"\\u{first:04x}-\\u{after - 1:04x}" for first, after in edges)


@cache
def _classes() -> NDArray[np.uint8]:
    """What every code point of the basic plane is; the last one stands for all beyond."""
    points = np.arange(_LAST_KNOWN + 1)
    # Of a category's two letters the first names the major class.
    majors = "".join(map(unicodedata.category, map(chr, points.tolist())))[::2]
    major = np.frombuffer(majors.encode("ascii"), dtype="S1")
    unspaced = np.zeros(points.size, dtype=bool)
    for low, high in _UNSPACED:
        unspaced[low:high] = True
    written = np.isin(major, (b"L", b"M"))
    classes = np.select(
        [
            unspaced,
            written | (major == b"N") | (points == ord("'")),
            np.isin(major, (b"Z", b"C")) & (points != ord("\n")),
        ],
        [np.where(written, _IDEOGRAPH, _MARK), _LETTER, _SEPARATOR],
        _MARK,
    ).astype(np.uint8)
    classes[_LAST_KNOWN] = _MARK
    return classes


@cache
def _letters() -> NDArray[np.bool_]:
    letters: NDArray[np.bool_] = _classes() == _LETTER
    return letters

"""What single words say, kept: the words of responses are few, and come again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..forking import renewed_in_children
from .ngrams import Hashes

Floats = NDArray[np.float32]
Read = Callable[[Sequence[str]], tuple[Hashes, Floats]]

KEPT: Final = 32_000
"""Words on a shelf, of which there are two: about 16 MB with 32 numbers a word."""
LONGEST: Final = 40
"""Characters of a word that is kept."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Only ever added to: a word stands in ``places`` once its hash and vector stand there."""

    tokens: Hashes
    vectors: Floats
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, width: int) -> _Shelf:
        return cls(np.empty(KEPT, np.uint64), np.empty((KEPT, width), np.float32))


class Lexicon:
    """``read`` gives the hash and the vector of words, and has to be a pure function of each.

    What is kept therefore changes no answer. Where the newer shelf is full, it becomes the older
    one, in place of that: words that are in use move on to the next. Safe to use from many threads.
    """

    def __init__(self, read: Read, width: int) -> None:
        self._read = read
        self._width = width
        self._shelves = _Shelf.empty(width), _Shelf.empty(width)
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``. A word whose adding was cut short is not in ``places`` yet."""
        self._adding = threading.Lock()

    def look_up(self, words: Sequence[str]) -> tuple[Hashes, Floats]:
        """The hash and the vector of every word."""
        shelf = self._shelves[0]
        places = list(map(shelf.places.get, words))
        if None in places:
            missing = [word for word, place in zip(words, places, strict=True) if place is None]
            shelf = self._keep([w for w in dict.fromkeys(missing) if len(w) <= LONGEST][:KEPT])
            places = list(map(shelf.places.get, words))
        left = [n for n, place in enumerate(places) if place is None] if None in places else []
        at = np.array([place or 0 for place in places] if left else places, dtype=np.int64)
        tokens, vectors = shelf.tokens.take(at), shelf.vectors.take(at, axis=0)
        if left:
            tokens[left], vectors[left] = self._find([words[n] for n in left], self._shelves[1])
        return tokens, vectors

    def _keep(self, words: Sequence[str]) -> _Shelf:
        """The shelf where they now stand."""
        if not words:
            return self._shelves[0]
        tokens, vectors = self._find(words, self._shelves[1])
        with self._adding:
            newer = self._shelves[0]
            new = [n for n, word in enumerate(words) if word not in newer.places]
            if len(newer.places) + len(new) > KEPT:
                self._shelves = _Shelf.empty(self._width), newer
                newer, new = self._shelves[0], list(range(len(words)))
            first = len(newer.places)
            after = first + len(new)
            newer.tokens[first:after] = tokens.take(new)
            newer.vectors[first:after] = vectors.take(new, axis=0)
            newer.places.update(zip([words[n] for n in new], range(first, after), strict=True))
        return newer

    def _find(self, words: Sequence[str], older: _Shelf) -> tuple[Hashes, Floats]:
        """What the newer shelf has not: from the older one, or read."""
        fresh = [n for n, word in enumerate(words) if word not in older.places]
        if len(fresh) == len(words):
            return self._read(words)
        at = [older.places.get(word, 0) for word in words]
        tokens, vectors = older.tokens.take(at), older.vectors.take(at, axis=0)
        if fresh:
            tokens[fresh], vectors[fresh] = self._read([words[n] for n in fresh])
        return tokens, vectors

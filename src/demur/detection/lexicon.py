"""What single words say, kept: the words of responses are few, and come again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .ngrams import Hashes

Floats = NDArray[np.float32]
Read = Callable[[Sequence[str]], tuple[Hashes, Floats]]

KEPT: Final = 20_000
"""Words kept at a time: about 6 MB at 32 numbers a word."""
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

    What is kept therefore changes no answer; where it is too much, it is begun again. Safe to use
    from many threads.
    """

    def __init__(self, read: Read, width: int) -> None:
        self._read = read
        self._width = width
        self._shelf = _Shelf.empty(width)
        self._adding = threading.Lock()

    def look_up(self, words: Sequence[str]) -> tuple[Hashes, Floats]:
        """The hash and the vector of every word."""
        shelf = self._shelf
        places = list(map(shelf.places.get, words))
        if None not in places:
            at = np.array(places, dtype=np.int64)
            return shelf.tokens.take(at), shelf.vectors.take(at, axis=0)
        missing = [index for index, place in enumerate(places) if place is None]
        unknown = [words[index] for index in missing]
        fresh = list(dict.fromkeys(unknown))
        spelled, read = self._read(fresh)
        self._keep(fresh, spelled, read)
        at = np.array([place or 0 for place in places], dtype=np.int64)
        tokens, vectors = shelf.tokens.take(at), shelf.vectors.take(at, axis=0)
        order = dict(zip(fresh, range(len(fresh)), strict=True))
        within = [order[word] for word in unknown]
        tokens[missing] = spelled.take(within)
        vectors[missing] = read.take(within, axis=0)
        return tokens, vectors

    def _keep(self, words: Sequence[str], tokens: Hashes, vectors: Floats) -> None:
        with self._adding:
            known = self._shelf.places
            new = [n for n, w in enumerate(words) if len(w) <= LONGEST and w not in known]
            del new[KEPT:]
            if len(known) + len(new) > KEPT:
                self._shelf = _Shelf.empty(self._width)
            shelf = self._shelf
            first = len(shelf.places)
            after = first + len(new)
            shelf.tokens[first:after] = tokens.take(new)
            shelf.vectors[first:after] = vectors.take(new, axis=0)
            shelf.places.update(zip([words[n] for n in new], range(first, after), strict=True))

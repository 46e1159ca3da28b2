"""Text as pieces of words: the unigram segmentation of SentencePiece, over a pruned vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_SPACE = "\u2581"
_LONGEST_PIECE = 16
_LONGEST_WORD = 64
_CACHED_WORDS = 50_000
_NEVER = -1e30
START, PADDING, END, UNKNOWN = range(4)
"""Places of the special pieces in every vocabulary."""


@dataclass(slots=True)
class Pieces:
    """A vocabulary. Words met before are remembered, up to a bound."""

    places: dict[str, int]
    scores: Sequence[float]
    unknown_score: float
    _known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, pieces: Sequence[str], scores: Sequence[float]) -> Pieces:
        return cls({p: i for i, p in enumerate(pieces)}, scores, min(scores) - 10.0)

    def read(self, text: str, head: int, tail: int) -> list[int]:
        """The places of the first ``head`` and the last ``tail`` pieces, between start and end."""
        found: list[int] = []
        for word in text.split():
            found.extend(self._word(word) if len(word) <= _LONGEST_WORD else self._line(word))
        if len(found) > head + tail:
            found = found[:head] + found[-tail:]
        return [START, *found, END]

    def _line(self, word: str) -> list[int]:
        """What no blank divides, as in Chinese, in parts that can be segmented on their own."""
        found = list(self._segment(_SPACE + word[:_LONGEST_WORD]))
        for start in range(_LONGEST_WORD, len(word), _LONGEST_WORD):
            found.extend(self._segment(word[start : start + _LONGEST_WORD]))
        return found

    def _word(self, word: str) -> tuple[int, ...]:
        known = self._known.get(word)
        if known is None:
            known = self._segment(_SPACE + word)
            if len(self._known) < _CACHED_WORDS:
                self._known[word] = known
        return known

    def _segment(self, word: str) -> tuple[int, ...]:
        """The likeliest pieces, by dynamic programming; a character of no piece is unknown."""
        size = len(word)
        best = [0.0] + [_NEVER] * size
        came_from = [(0, UNKNOWN)] * (size + 1)
        for start in range(size):
            reached = best[start]
            if reached + self.unknown_score > best[start + 1]:
                best[start + 1] = reached + self.unknown_score
                came_from[start + 1] = (start, UNKNOWN)
            for end in range(start + 1, min(size, start + _LONGEST_PIECE) + 1):
                place = self.places.get(word[start:end])
                if place is not None and reached + self.scores[place] > best[end]:
                    best[end] = reached + self.scores[place]
                    came_from[end] = (start, place)
        found: list[int] = []
        end = size
        while end > 0:
            end, place = came_from[end]
            found.append(place)
        return tuple(reversed(found))

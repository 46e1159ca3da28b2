"""How long a pass will take, by those that were measured."""

from __future__ import annotations

from typing import Final

SMOOTHING: Final = 0.2
"""Weight of the newest pass; each older one weighs so much less than the next."""
NOTHING: Final = 0.05
"""Weight of what is known unmeasured: that a pass over no characters takes no time."""


class Pace:
    """A line through the passes so far: seconds that each takes, and seconds a character.

    Where all passes were of one size nobody can tell the two apart, and all goes by characters.
    Asking a server costs nearly the same for a word and for a page; reading a text oneself does
    not. Not safe to share between threads.
    """

    def __init__(self) -> None:
        self.known = False
        self.each = self.a_character = 0.0
        self._passes = self._x = self._y = self._xx = self._xy = 0.0

    def learn(self, chars: int, seconds: float) -> None:
        """Of one pass; ``chars`` is at least 1."""
        kept = 1.0 - SMOOTHING
        self._passes = kept * self._passes + 1.0
        self._x = kept * self._x + chars
        self._y = kept * self._y + seconds
        self._xx = kept * self._xx + chars * chars
        self._xy = kept * self._xy + chars * seconds
        passes = self._passes + NOTHING
        slope = (passes * self._xy - self._x * self._y) / (passes * self._xx - self._x * self._x)
        self.a_character = min(max(slope, 0.0), self._y / self._x)
        self.each = max(0.0, self._y - self.a_character * self._x) / passes
        self.known = True

    def seconds(self, passes: int, chars: int) -> float:
        """What so many passes over so many characters take, one after another."""
        return passes * self.each + chars * self.a_character

    def chars(self, seconds: float) -> float:
        """How many characters one pass may have that shall take no longer."""
        if not self.a_character:
            return float("inf")
        return max(0.0, seconds - self.each) / self.a_character

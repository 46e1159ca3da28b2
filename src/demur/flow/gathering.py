"""What a stream has said so far, choice by choice, in bounded memory.

Reasoning inside tags (see ``thinking``) is left out as it arrives, however they are cut up. Of a
long answer the beginning and the end are kept: the middle of a stream is never judged, also where
a stage is to read ``windows: all``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..thinking import LONGEST, OPENING, UNFINISHED, closing
from ..vocabulary import Chunk, Delta, Evidence, Signal, Usage, Verdict

KEPT_CHARS = 8192
"""Characters kept at each end of a choice's text."""

STEP_CHARS = 8
"""Prefixes are judged at multiples of this many visible characters, wherever chunks end."""

_BLANKS = re.compile(r"\s*")


class ThinkFilter:
    """Drops reasoning blocks, and blanks, at the beginning of a text that arrives in pieces.

    ``reasoned`` says that a block has begun.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._end: re.Pattern[str] | None = None
        self._begun = False
        self.reasoned = False

    def feed(self, text: str) -> str:
        """The visible part of what has become certain."""
        text, self._pending = self._pending + text, ""
        position = 0
        while not self._begun:
            if self._end is not None:
                end = self._end.search(text, position)
                if end is None:
                    self._pending = text[max(position, len(text) - LONGEST) :]
                    return ""
                self._end, position = None, end.end()
            position = _skip_blanks(text, position)
            if opening := OPENING.match(text, position):
                self._end, position = closing(opening), opening.end()
                self.reasoned = True
            elif UNFINISHED.match(text, position):
                self._pending = text[position:]
                return ""
            else:
                self._begun = True
        return text[position:]

    def finish(self) -> str:
        """What was withheld because it might have become a tag."""
        visible = "" if self._end is not None else self._pending
        self._pending = ""
        return visible


@dataclass(slots=True)
class ChoiceSoFar:
    """One choice of a stream."""

    verdict: Verdict | None = None
    finished: bool = False
    non_text: bool = False
    reasoning: bool = False
    signals: tuple[Signal, ...] = ()
    refusal: str = ""
    chars: int = 0
    """Visible characters that came, kept or not, the refusal field's included."""
    judged_chars: int = 0
    suspect: bool = False
    """Whether it is to be held for longer: unsure, but with a score above the threshold."""
    _head: str = ""
    _tail: str = ""
    _dropped: bool = False
    _filter: ThinkFilter = field(default_factory=ThinkFilter)

    def absorb(self, delta: Delta) -> None:
        self._say(delta.text, delta.refusal)
        if delta.whole is not None and not self.chars:
            self._say(delta.whole.text, delta.whole.refusal)
        self.signals += tuple(s for s in delta.signals if s not in self.signals)
        self.non_text = self.non_text or delta.non_text
        self.reasoning = self.reasoning or delta.reasoning or self._filter.reasoned
        if delta.finished and not self.finished:
            self.finished = True
            self._append(self._filter.finish())

    def _say(self, text: str, refusal: str) -> None:
        self._append(self._filter.feed(text))
        if len(self.refusal) < KEPT_CHARS:
            self.refusal += refusal
        self.chars += len(refusal)

    def _append(self, text: str) -> None:
        self.chars += len(text)
        room = KEPT_CHARS - len(self._head)
        self._head += text[:room]
        self._tail += text[room:]
        if len(self._tail) > 2 * KEPT_CHARS:
            self._tail = self._tail[-KEPT_CHARS:]
            self._dropped = True

    def evidence(self) -> Evidence:
        """All that is known of the choice."""
        gap = "\n" if self._dropped else ""
        return Evidence(
            text=self._head + gap + self._tail,
            refusal=self.refusal,
            signals=self.signals,
            non_text=self.non_text,
        )

    def prefix(self, chars: int) -> Evidence:
        """The choice's first ``chars`` visible characters, which nothing after them changes.

        They may end within a word: detectors are trained and calibrated on such beginnings, and
        the embedded one asks its encoder at some lengths only.
        """
        return Evidence(
            text=self._head[:chars],
            refusal=self.refusal[: max(0, chars - len(self._head))],
            signals=self.signals,
            non_text=self.non_text,
        )

    def due(self, cap: int) -> int | None:
        """The next prefix length to judge, if there is one up to ``cap`` and to what is kept."""
        chars = self.judged_chars + STEP_CHARS
        return chars if chars <= min(self.chars, cap, KEPT_CHARS) else None


@dataclass(slots=True)
class Gathering:
    """All choices of a stream; ``expected`` is how many the request asked for."""

    expected: int = 1
    choices: dict[int, ChoiceSoFar] = field(default_factory=dict)
    model: str | None = None
    usage: Usage | None = None
    opaque: bool = False
    done: bool = False

    def note(self, chunk: Chunk) -> None:
        self.opaque = self.opaque or chunk.opaque
        self.model = self.model or chunk.model
        if chunk.usage is not None:
            self.usage = _added(self.usage or Usage(), chunk.usage)

    def absorb(self, delta: Delta) -> ChoiceSoFar:
        choice = self.choices.setdefault(delta.index, ChoiceSoFar())
        choice.absorb(delta)
        return choice

    def end(self) -> None:
        """The stream has said all it will, whether or not it said so for each choice."""
        self.done = True
        for choice in self.choices.values():
            choice.absorb(Delta(finished=True))

    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(choice.evidence() for choice in self.choices.values())

    @property
    def visible(self) -> bool:
        return any(choice.chars for choice in self.choices.values())

    @property
    def complete(self) -> bool:
        """Whether every choice asked for has finished."""
        finished = [c for c in self.choices.values() if c.finished]
        return self.done or len(finished) >= max(self.expected, len(self.choices))


def _added(before: Usage, new: Usage) -> Usage:
    """Counts only grow; Anthropic sends the input's at the beginning, the output's at the end."""
    return Usage(
        max(before.input_tokens, new.input_tokens), max(before.output_tokens, new.output_tokens)
    )


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    assert blanks is not None
    return blanks.end()

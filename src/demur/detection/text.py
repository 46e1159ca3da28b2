"""What is judged of a response: the visible words, cut to a window, in one plain spelling.

Everything here is a pure function of the text and costs time in proportion to the window, not to
the response, apart from the search for reasoning blocks.
"""

from __future__ import annotations

import re
import unicodedata

from ..thinking import OPENING, closing

HEAD_CHARS = 1200
TAIL_CHARS = 300
CUT = "\n[...]\n"
"""Stands where the middle of a long response was left out."""

_SPELLINGS = {
    **dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f\uff02", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("*_#~\u00ad\u200b\u200c\u200d\u2060\ufeff\u0640", ""),
    **dict.fromkeys(map(chr, (*range(10), 11, *range(14, 32), *range(127, 160), 0x1680)), " "),
    **dict.fromkeys("\x0c\r\x85\u2028\u2029", "\n"),
}
_SPELLED = re.compile(f"[{re.escape(''.join(_SPELLINGS))}]")
_ESCAPES = re.compile(r"\\u([0-9a-fA-F]{4})|\\([nrt\"/])")
_ESCAPED = {"n": "\n", "r": "\n", "t": " ", '"': '"', "/": "/"}
_BLANKS = re.compile("  +")
_LINES = re.compile(r"\n\s+")
_DIGITS = re.compile(r"\d")
_BACKTICKS = re.compile("``+")


def visible(text: str) -> str:
    """``text`` without its reasoning blocks; one that is still open hides all that follows."""
    if "<" not in text:
        return text
    kept: list[str] = []
    position = 0
    while opening := OPENING.search(text, position):
        kept.append(text[position : opening.start()])
        end = closing(opening).search(text, opening.end())
        if end is None:
            return "".join(kept)
        position = end.end()
    kept.append(text[position:])
    return "".join(kept)


def window(text: str, head: int = HEAD_CHARS, tail: int = TAIL_CHARS) -> str:
    """The first ``head`` and last ``tail`` characters, ``CUT`` between them if some are missing."""
    if len(text) <= head + tail:
        return text
    return text[:head] + CUT + text[len(text) - tail :]


def normalise(text: str) -> str:
    """One spelling for what means the same: quotes, dashes, case, digits, blanks, JSON escapes."""
    if "\\" in text:
        text = _ESCAPES.sub(_unescape, text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _SPELLED.sub(_respell, _BACKTICKS.sub("\n", text))
    # The only blanks that are left are spaces and ends of lines.
    text = _BLANKS.sub(" ", text)
    text = _LINES.sub("\n", text.replace(" \n", "\n")).strip()
    return _DIGITS.sub("0", text.lower())


def judged(text: str) -> str:
    """What the embedded model reads of ``text``."""
    shown = visible(text)
    if len(shown) > 4 * (HEAD_CHARS + TAIL_CHARS):
        # Blanks are cut before the window is, so that padding cannot push a refusal out of it.
        shown = window(shown.strip(), 2 * HEAD_CHARS, 2 * TAIL_CHARS)
    return window(normalise(shown))


def _respell(found: re.Match[str]) -> str:
    return _SPELLINGS[found[0]]


def _unescape(found: re.Match[str]) -> str:
    if found[1] is None:
        return _ESCAPED[found[2]]
    point = int(found[1], 16)
    return " " if 0xD800 <= point < 0xE000 else chr(point)

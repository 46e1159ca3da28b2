"""What the embedded model reads of a response."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.text import CUT, HEAD_CHARS, TAIL_CHARS, judged, normalise, visible, window


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("<think>I can't help.</think>Paris.", "Paris."),
        ("<thinking>no</thinking>A<think>b</think>C", "AC"),
        ("<THINK>no</THINK>yes", "yes"),
        ("<Think>no</think>yes", "yes"),
        ("<think>no</thinking>still</think>yes", "yes"),
        ("before <think>still open", "before "),
        ("a < b and c > d", "a < b and c > d"),
    ],
)
def test_reasoning_is_not_visible(raw: str, shown: str) -> None:
    """Reasoning blocks are left out; an open one hides the rest."""
    assert visible(raw) == shown


def test_curly_is_straight() -> None:
    """Typographic quotes, dashes and apostrophes read as the plain ones."""
    assert normalise("I\u2019m sorry \u2014 \u201cno\u201d") == 'i\'m sorry - "no"'


def test_case_markup_and_blanks_do_not_matter() -> None:
    """Capitals, emphasis, headings, blanks and zero-width characters change nothing."""
    assert normalise("**I  CAN'T**\u200b help\t you\x07") == normalise("i can't help you ")


@pytest.mark.parametrize("blank", [" ", "  ", "\t", " \t ", "\u00a0", "\u2003 ", "\x1f", "\u200b "])
def test_all_blanks_are_one(blank: str) -> None:
    """However words are kept apart, and whatever stands around the end of a line."""
    assert normalise(f"a{blank}b") == "a b"
    assert normalise(f"{blank}a{blank}\n{blank}\n{blank}b{blank}") == "a\nb"


def test_json_escapes_are_read() -> None:
    """Text inside JSON reads as the text itself."""
    assert normalise(r"I\u2019m sorry.\nI can\"t") == "i'm sorry.\ni can\"t"


def test_lone_surrogates_survive() -> None:
    """Half a surrogate pair, raw or escaped, is read without an error."""
    assert judged("\ud800 \\ud83d ok").endswith("ok")


def test_long_text_keeps_head_and_tail() -> None:
    """Beyond the window the beginning and the end are read, not the middle."""
    found = judged("a" * 5000 + "m" * 5000 + "z" * 5000)
    assert found == "a" * HEAD_CHARS + CUT + "z" * TAIL_CHARS


def test_window_leaves_short_text_alone() -> None:
    """What fits is not cut."""
    assert window("x" * (HEAD_CHARS + TAIL_CHARS)) == "x" * (HEAD_CHARS + TAIL_CHARS)


def test_padding_does_not_hide_the_end() -> None:
    """Blanks before and after cannot push words out of the window."""
    assert judged(" " * 100_000 + "I won't." + "\n" * 100_000) == "i won't."


def test_a_megabyte_is_fast() -> None:
    """A response of a megabyte costs little more than its window."""
    text = "I can't help with that. " * 45_000
    start = time.perf_counter()
    judged(text)
    assert time.perf_counter() - start < 0.1


@given(st.text(max_size=300))
def test_reading_is_stable(text: str) -> None:
    """Any text can be read, and the window bounds what is left."""
    assert len(judged(text)) <= HEAD_CHARS + TAIL_CHARS + len(CUT)

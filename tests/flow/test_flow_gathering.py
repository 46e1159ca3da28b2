"""What is remembered of a stream."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from demur.detection.text import visible
from demur.flow.gathering import KEPT_CHARS, ChoiceSoFar, ThinkFilter
from demur.vocabulary import Delta

TAGS = ["<think>", "</think>", "<THINKING>", "</Thinking>", "<reasoning>", "</reasoning>"]
CUTS = ["<thi", "nk>", "ing>", "</", "<Reason"]
texts = st.text("<think>/ \nab", max_size=60) | st.lists(
    st.sampled_from([*TAGS, *CUTS, " ", "\n\n", "Sure", "I'm", "\u212a", "\u0131"]), max_size=12
).map("".join)


def filtered(pieces: list[str]) -> str:
    think = ThinkFilter()
    return "".join(think.feed(piece) for piece in pieces) + think.finish()


def without_thinking(text: str) -> str:
    """The same by regular expression, on the whole: blocks at the beginning, then the text."""
    block = r"\s*<(think|thinking|reasoning)>.*?(</\2>|\Z)"
    flags = re.DOTALL | re.IGNORECASE | re.ASCII
    return re.sub(rf"\A({block})*\s*", "", text, flags=flags)


@given(texts, st.lists(st.integers(0, 60), max_size=10))
@example("<think>a</think>\n\nSure", [16])
@example("<Thinking>a</thinKING><reasoning>b</reasoning>Sure", [6, 14, 25, 47])
def test_any_cutting_equals_the_whole(text: str, at: list[int]) -> None:
    """However the tags are cut up, the visible text is the same."""
    points = [0, *sorted(min(point, len(text)) for point in at), len(text)]
    pieces = [text[a:b] for a, b in pairwise(points)]
    assert filtered(pieces) == filtered([text]) == without_thinking(text)
    # What a detector makes of it is what it makes of the whole.
    assert visible(filtered(pieces)).lstrip() == visible(text).lstrip()


@given(texts)
def test_what_has_been_shown_is_never_taken_back(text: str) -> None:
    """Fed letter by letter, what is visible only grows, and is a beginning of the whole."""
    think, seen = ThinkFilter(), ""
    for letter in text:
        seen += think.feed(letter)
        assert filtered([text]).startswith(seen)


def test_only_what_may_become_a_tag_is_withheld() -> None:
    """Ordinary text is visible at once."""
    assert ThinkFilter().feed("S") == "S"
    think = ThinkFilter()
    assert (think.feed("<th"), think.feed("e")) == ("", "<the")


def held_chars(think: ThinkFilter) -> int:
    return sum(len(value) for value in vars(think).values() if isinstance(value, str))


@given(st.sampled_from(["reasoning ", " ", "\n", "<", "</thin"]), st.booleans())
def test_memory_is_bounded_while_nothing_is_visible(piece: str, thinking: bool) -> None:
    """Endless reasoning or blanks are not kept."""
    think = ThinkFilter()
    think.feed("<think>" if thinking else "")
    for _ in range(500):
        think.feed(piece)
    assert held_chars(think) < 50


@given(st.lists(st.integers(1, 5_000), max_size=40))
@example([5_000] * 40)
def test_a_long_text_keeps_its_beginning_and_its_end(sizes: list[int]) -> None:
    """Of any text at most three times ``KEPT_CHARS`` are kept, in whatever pieces it came."""
    choice, text = ChoiceSoFar(), ""
    for number, size in enumerate(sizes):
        piece = chr(ord("a") + number % 26) * size
        text += piece
        choice.absorb(Delta(text=piece))
        evidence = choice.evidence().text
        assert len(evidence) <= 3 * KEPT_CHARS + 1
        assert evidence[:KEPT_CHARS] == text[:KEPT_CHARS]
        assert evidence[-min(len(text), KEPT_CHARS) :] == text[-KEPT_CHARS:]
        if len(text) <= 2 * KEPT_CHARS:
            assert evidence == text
        assert choice.chars == len(text)


def test_a_long_refusal_field_is_bounded() -> None:
    """The refusal field is kept to about ``KEPT_CHARS``."""
    choice = ChoiceSoFar()
    for _ in range(1_000):
        choice.absorb(Delta(refusal="no " * 100))
    assert len(choice.refusal) <= KEPT_CHARS + 300


@given(st.text("ab \n世", max_size=60), st.text("ab ", max_size=30), st.integers(0, 60))
def test_a_prefix_does_not_depend_on_what_follows(text: str, more: str, chars: int) -> None:
    """The same prefix, whether or not more has arrived by then."""
    if len(text) < chars:
        return
    one, other = ChoiceSoFar(), ChoiceSoFar()
    one.absorb(Delta(text="x" + text))
    other.absorb(Delta(text="x" + text + more))
    assert one.prefix(chars) == other.prefix(chars)
    assert one.prefix(chars).text == ("x" + text)[:chars]

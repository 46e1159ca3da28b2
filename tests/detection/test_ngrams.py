"""Hashed n-grams."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from demur.detection.ngrams import WORD_ORDERS, extract, hash_words, spell, spell_word

WORDS = st.lists(
    st.sampled_from(["i", "can't", "help", ".", "you", "抱歉", "죄송", "!"]), min_size=1
)


def features(text: str) -> set[tuple[int, int]]:
    grams = extract(text)
    return set(zip(grams.hashes.tolist(), grams.words.tolist(), strict=True))


@given(WORDS, WORDS)
def test_a_prefix_has_the_features_of_the_whole(first: list[str], second: list[str]) -> None:
    """Features depend on nothing that follows: what a stream has shown stays as it is."""
    start = " ".join(first)
    assert features(start) <= features(f"{start} {' '.join(second)}")


def test_the_same_words_have_the_same_hash() -> None:
    """A run of words is one feature wherever it stands."""
    where = extract("well , i can't help you")
    assert hash_words("i", "can't", "help") in where.hashes.tolist()
    assert hash_words("i", "can't", "assist") not in where.hashes.tolist()


def test_order_matters() -> None:
    """A run is not a bag."""
    assert hash_words("can", "i") != hash_words("i", "can")


def test_runs_are_bounded() -> None:
    """No run is longer than ``WORD_ORDERS``."""
    grams = extract("a b c d e f g h")
    runs = int((~grams.pieces).sum())
    assert runs == sum(8 - order + 1 for order in range(1, WORD_ORDERS + 1))


def test_sentences_are_told_apart() -> None:
    """A sentence ends at a mark before a blank, in any script, and not within a number."""
    assert extract("no. yes.").segments.tolist() == [0, 0, 1, 1]
    assert extract("pi is 0.00 ok").segments.max() == 0
    assert extract("抱歉。不行。").segments.max() == 1
    assert extract("one\ntwo").segments.tolist() == [0, 0, 1]


def test_scripts_without_blanks_are_read_by_character() -> None:
    """Han, kana and Thai characters are words of their own; Hangul words have pieces."""
    assert extract("无法").size == 2
    assert extract("ไม่ได้").size == 6
    assert bool(extract("죄송합니다").pieces.any())


def test_empty_text_has_none() -> None:
    """Nothing to read, no features."""
    assert extract("").size == 0


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    """Every feature belongs to a word and every word to a sentence."""
    grams = extract(text)
    assert grams.hashes.size == grams.words.size == grams.pieces.size
    assert not grams.words.size or grams.words.max() < grams.size


@given(st.text(min_size=1, max_size=50))
@example("can't")
@example("죄송합니다")
@example("\ud800")
@example("\U00020000a")
def test_a_word_alone_is_spelled_as_among_others(word: str) -> None:
    """``spell_word`` says what ``spell`` does, whatever stands in the word."""
    among = spell(["before", word, "after"])
    token, pieces = spell_word(word)
    assert token == among.tokens[1]
    assert sorted(pieces) == sorted(among.pieces[among.owners == 1].tolist())

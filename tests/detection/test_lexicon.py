"""What single words say, kept."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection import lexicon
from demur.detection.lexicon import LONGEST, Floats, Lexicon
from demur.detection.ngrams import Hashes, spell

WORDS = st.lists(st.text("abc抱歉", min_size=1, max_size=4), min_size=1, max_size=30)


def read(words: Sequence[str]) -> tuple[Hashes, Floats]:
    """A word's hash, and its length and first letter as its vector."""
    vectors = np.array([[len(word), ord(word[0])] for word in words], dtype=np.float32)
    return spell(words).tokens, vectors


def check(known: Lexicon, words: Sequence[str]) -> None:
    for found, expected in zip(known.look_up(words), read(words), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a few words only."""
    monkeypatch.setattr(lexicon, "KEPT", 16)


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_what_is_kept_changes_no_answer(texts: list[list[str]]) -> None:
    """Words come out as they are read, whether any, some or all of a text's were seen before."""
    known = Lexicon(read, 2)
    for words in texts:
        check(known, words)


def test_a_word_is_read_once() -> None:
    """Words that are kept are not read again; those too long to be kept are."""
    seen: list[str] = []

    def noting(words: Sequence[str]) -> tuple[Hashes, Floats]:
        seen.extend(words)
        return read(words)

    known, long = Lexicon(noting, 2), "x" * (LONGEST + 1)
    for _ in range(3):
        check(known, ["no", long, "no", "way"])
    assert sorted(seen) == sorted(["no", "way", long, long, long])


@pytest.mark.usefixtures("few")
def test_however_many_words_come_few_are_kept() -> None:
    """Neither shelf holds more than ``KEPT``, and answers stay right."""
    known = Lexicon(read, 2)
    for start in range(0, 200, 7):
        check(known, [f"w{number}" for number in range(start, start + 11)])
        assert all(len(shelf.places) <= lexicon.KEPT for shelf in known._shelves)
    check(known, [f"v{number}" for number in range(50)])


@pytest.mark.usefixtures("few")
def test_a_word_in_use_is_kept() -> None:
    """A word that comes again and again is read once, whatever comes between."""
    seen: list[str] = []

    def noting(words: Sequence[str]) -> tuple[Hashes, Floats]:
        seen.extend(words)
        return read(words)

    known = Lexicon(noting, 2)
    for number in range(100):
        check(known, ["often", f"w{number}", f"v{number}"])
    assert seen.count("often") == 1


@pytest.mark.usefixtures("few")
def test_many_threads_get_their_own_words() -> None:
    """Threads that fill its shelves under each other all read what they asked for."""
    known = Lexicon(read, 2)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(300):
            check(known, [f"w{chance.randrange(40)}" for _ in range(6)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_waits_for_nobody():
    """A thread that was adding words does not hang the child, which has no such thread."""
    known = Lexicon(read, 2)
    with known._adding:
        child = os.fork()
        if child == 0:
            known.look_up(["a", "b"])
            os._exit(0)
    deadline = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    check(known, ["a", "b"])

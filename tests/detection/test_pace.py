"""How long a pass will take, and what a queue admits by it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from demur.detection.batching import Batcher
from demur.detection.pace import Pace
from demur.errors import DetectorError


@pytest.mark.parametrize(("each", "character"), [(0.05, 0.0), (0.05, 1e-4), (0.0, 1e-4)])
def test_what_a_pass_costs_and_what_a_character(each: float, character: float) -> None:
    """Passes of many sizes tell the two apart, so that far longer ones are foretold, too."""
    pace = Pace()
    for chars in (1000, 5000, 2000, 1000, 3000, 8000):
        pace.learn(chars, each + character * chars)
    for passes, chars in ((1, 1000), (4, 100_000)):
        truth = passes * each + character * chars
        assert pace.seconds(passes, chars) == pytest.approx(truth, rel=0.25, abs=0.02)


def test_passes_of_one_size_go_by_characters() -> None:
    """Nothing else is known of longer ones."""
    pace = Pace()
    for _ in range(20):
        pace.learn(1000, 0.1)
    assert pace.seconds(1, 10_000) == pytest.approx(1.0, rel=0.01)
    assert pace.chars(0.5) == pytest.approx(5000, rel=0.01)


@pytest.mark.parametrize("passes", [[(1, 9.0), (10_000, 0.0)], [(1, 0.0), (2, 0.0)], [(5, 0.0)]])
def test_no_forecast_is_negative(passes: list[tuple[int, float]]) -> None:
    """However odd what was measured."""
    pace = Pace()
    for chars, seconds in passes:
        pace.learn(chars, seconds)
    assert pace.each >= 0.0
    assert pace.a_character >= 0.0
    assert pace.chars(0.1) >= 0.0


def test_long_texts_are_not_turned_away_for_what_short_ones_took() -> None:
    """A server takes as long over a word as over a page: eight callers with pages are served."""

    def asked(texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        time.sleep(0.05)
        return ((index, 0.5) for index in range(len(texts)))

    batcher = Batcher("server", asked, patience=2.0, workers=4)
    numbers = itertools.count()

    def ask(words: int) -> bool:
        try:
            return batcher.submit(f"{next(numbers)} " + "word " * words).result(5) == 0.5
        except DetectorError:
            return False

    for words in (0, 1, 0, 300, 0):
        assert ask(words)
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(ask, [1500] * 40)) == [True] * 40

"""The rows written by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np

from demur.training.written import Draws, pair_of, written_rows


def test_no_pair_is_in_both_parts_and_none_is_there_twice() -> None:
    """What thresholds are chosen on has no counterpart among what is trained on."""
    train, develop = written_rows()
    texts = [row.response for row in (*train, *develop)]
    assert len(texts) == len(set(texts))
    apart = {pair_of(row) for row in develop} - {None}
    assert len(apart) > 100
    assert not apart & {pair_of(row) for row in train}


def test_labels_tell_nothing_of_the_language() -> None:
    """In every language about half the rows are refusals."""
    train, develop = written_rows()
    counts = Counter((row.lang, row.label) for row in (*train, *develop))
    for lang in {lang for lang, _ in counts}:
        share = counts[lang, 1] / (counts[lang, 0] + counts[lang, 1])
        assert 0.4 <= share <= 0.6, (lang, share)


def test_rows_are_drawn_equally_often() -> None:
    """However many are drawn, none is seen twice more than another."""
    train, _ = written_rows()
    draws = Draws(train, np.random.default_rng(0))
    drawn = Counter(row.id for _ in range(7) for row in draws.draw(len(train) // 3))
    assert max(drawn.values()) - min(drawn[row.id] for row in train) <= 1

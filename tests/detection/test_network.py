"""The embedded network, and the features it knows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection import network as module
from demur.detection.embedded import EmbeddedDetector
from demur.detection.features import Features
from demur.detection.network import FEW, WIDTH, Network
from demur.detection.ngrams import split

NETWORK = EmbeddedDetector.load().network
WORDS = st.lists(
    st.sampled_from(["sorry", "can't", "unfortunately", "über", "抱", "죄송합니다", "!", "x" * 60]),
    min_size=1,
    max_size=3 * FEW,
)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60), st.data())
def test_features_are_found_by_their_hash(hashes: list[int], data: st.DataObject) -> None:
    """One hash and many find the same rows: those of their keys, unless another has the slot."""
    known = data.draw(st.lists(st.sampled_from(hashes), unique=True, min_size=1))
    features = Features(np.array([value >> 32 for value in known], np.uint32))
    rows = features.rows(np.array(hashes, np.uint64)).tolist()
    assert rows == [features.row(value) for value in hashes]
    assert all(
        row < 0 or known[row] >> 32 == value >> 32 for row, value in zip(rows, hashes, strict=True)
    )
    assert features.row(known[0]) == 0


@given(WORDS)
def test_words_read_alone_are_read_as_together(words: list[str]) -> None:
    """However many words are read at once, each says the same, to the last bit."""
    tokens, vectors = NETWORK._read([*words, *["padding"] * FEW])
    alone = [NETWORK._read([word]) for word in words]
    assert [int(token[0]) for token, _ in alone] == tokens[: len(words)].tolist()
    assert np.array_equal(np.concatenate([vector for _, vector in alone]), vectors[: len(words)])


@pytest.mark.parametrize("count", [1, 4, 123, 124, 125, 300, 1000])
def test_the_convolution_sees_five_words_wherever_blocks_meet(count: int) -> None:
    """It is cut into blocks; what it finds is what one product over every window finds."""
    taps = NETWORK.layers.taps
    embedded = np.random.default_rng(count).normal(size=(count, taps.shape[1])).astype(np.float32)
    padded = np.concatenate([np.zeros((WIDTH - 1, taps.shape[1]), np.float32), embedded])
    windows = np.stack([padded[at : at + WIDTH].ravel() for at in range(count)])
    expected = windows @ taps.reshape(-1, taps.shape[2])
    assert np.allclose(NETWORK._convolve(embedded), expected, rtol=1e-3, atol=1e-3)


def test_a_copy_for_another_process_answers_alike() -> None:
    """Pickled, it brings its weights and nothing it has read."""
    words = split("i'm sorry, but i can't help with that.")
    first = NETWORK.outputs(words)
    again: Network = pickle.loads(pickle.dumps(NETWORK))
    assert not again.lexicon._shelves[0].places
    assert np.array_equal(again.outputs(words), first)


def test_few_words_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to ``FEW`` words take no array of their characters."""
    monkeypatch.setattr(module, "spell", None)
    assert all(NETWORK._read(["word"] * count)[0].size == count for count in range(1, FEW + 1))

"""The fuzzing targets under hypothesis: a short run with every run of the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from . import targets

WORDS = ("data: ", "event: error\n", "\r\n", "\n\n", "[DONE]", "<think>", "</think>", "I'm s",
         "\u2019", "{", '"choices":[', "- &a [*a]", "rules:\n", "\ufeff")  # fmt: skip
pieces = st.sampled_from([b"\xe2\x80", *(word.encode() for word in WORDS)])
payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "delta", "message", "content", "type", "text", "index",
                         "usage", "output", "response", "error", "item", "refusal"]),
        inner, max_size=4),
    max_leaves=12,
).map(lambda payload: b"data: " + json.dumps(payload).encode() + b"\n\n")  # fmt: skip
anything = st.lists(st.binary(max_size=12) | pieces | payloads, max_size=12).map(b"".join)


@given(anything)
@example(b"")
def test_policies(data: bytes) -> None:
    """Any bytes are a policy or a policy error."""
    targets.policy(data)


@given(anything)
@settings(max_examples=300)
@example(b"\xef\xbb\xbfdata: 1\r\n\r\n")
def test_wire_shapes(data: bytes) -> None:
    """Any bytes are read, however they are cut."""
    targets.wire(data)


@given(anything)
@settings(max_examples=200, deadline=None)
@example(b"<think>" * 500 + b"x")
@example(b"\xed")
@example(b"\xed\xa0\x80 I'm sorry, but I can't help with that.")
def test_texts(data: bytes) -> None:
    """Any bytes are prepared and scored."""
    targets.text(data)


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_seeds(name: str) -> None:
    """What fuzzing starts from, and what it once found, passes."""
    seeds = sorted((Path(__file__).parent / "seeds" / name).iterdir())
    assert seeds
    for seed in seeds:
        targets.TARGETS[name](seed.read_bytes())

"""Texts and bodies made to be slow or deep: all are read in time near to linear, none raises."""

from __future__ import annotations

import json
import time

import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.flow.gathering import ChoiceSoFar
from demur.vocabulary import Delta, Evidence
from demur.wire import SSEReader, shape_for

MEGABYTE = 1_000_000
SECONDS = 2.0
"""Of the processor, for a megabyte: what grows with its square takes minutes."""

TEXTS = {
    "open-thinking": "<think>",
    "closed-thinking": "<think></think>",
    "mixed-thinking": "<think><thinking></think><reasoning>",
    "upper-thinking": "<THINK>x</think>",
    "backticks": "`",
    "backslashes": "\\",
    "escapes": "\\u0041",
    "half-escapes": "\\u004",
    "blanks": " ",
    "lines": " \n",
    "returns": "\r",
    "expanding": "\ufdfa",
    "combining": "e\u0301\u0302",
    "invisible": "\u200b\ufeff",
    "surrogates": "\ud800",
    "nul": "\0",
    "apologies": "I'm sorry, ",
    "almost": "I'm sorr",
    "one-word": "a",
    "digits": "0123456789",
    "quotes": "\u2019\u201c",
}


@pytest.fixture(params=sorted(TEXTS))
def text(request: pytest.FixtureRequest) -> str:
    unit = TEXTS[request.param]
    return unit * (MEGABYTE // len(unit.encode("utf-8", "surrogatepass")))


def in_time(start: float) -> bool:
    return time.thread_time() - start < SECONDS


def test_a_text_is_judged(text: str) -> None:
    """A megabyte of it, as a prefix and as a whole."""
    detector = EmbeddedDetector.load()
    start = time.thread_time()
    for final in (True, False):
        detector.classify(Evidence(text), final=final)
    assert in_time(start)


def test_a_streamed_text_is_gathered(text: str) -> None:
    """At once, and in small pieces."""
    for size in (MEGABYTE, 64):
        choice = ChoiceSoFar()
        start = time.thread_time()
        for position in range(0, len(text), size):
            choice.absorb(Delta(text=text[position : position + size]))
        choice.absorb(Delta(finished=True))
        assert len(choice.evidence().text) < 100_000
        assert in_time(start)


@pytest.mark.parametrize("opening", ["[", '{"choices":', '{"output":[', '{"content":[{"text":'])
def test_deep_json_is_not_judged(opening: str) -> None:
    """Nesting deeper than the interpreter reads is unreadable, no error."""
    body = opening * 100_000
    for api in ("chat", "responses", "messages"):
        shape = shape_for(api)
        start = time.thread_time()
        assert not shape.read_body(body).choices
        assert shape.read_event(None, body).opaque
        assert in_time(start)


@pytest.mark.parametrize(
    "unit", [b"data: ", b"\n", b"\r\n", b":\n", b"data\n", b"data: 1\n\n", b"a"]
)
def test_streams_of_events_without_end(unit: bytes) -> None:
    """A megabyte of lines, or of one line, at once and in small pieces."""
    data = unit * (MEGABYTE // len(unit))
    for size in (MEGABYTE, 64):
        reader = SSEReader()
        start = time.thread_time()
        for position in range(0, len(data), size):
            reader.feed(data[position : position + size])
        reader.finish()
        assert in_time(start)


def test_ten_thousand_choices() -> None:
    """As many choices as a server cares to send."""
    choices = [{"index": i, "message": {"content": "no"}} for i in range(10_000)]
    start = time.thread_time()
    read = shape_for("chat").read_body(json.dumps({"choices": choices}))
    assert len(read.choices) == 10_000
    assert in_time(start)

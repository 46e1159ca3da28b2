"""What may be given anything at all, and what has to hold whatever it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

from demur.detection.embedded import EmbeddedDetector
from demur.detection.text import HEAD_CHARS, TAIL_CHARS, judged, normalise, visible
from demur.errors import PolicyError
from demur.flow.gathering import ThinkFilter
from demur.policy import Policy, lint, parse_policy
from demur.vocabulary import Api, Evidence
from demur.wire import SSEReader, shape_for

APIS: tuple[Api, ...] = ("chat", "responses", "messages")


def policy(data: bytes) -> None:
    """A policy, usable at once, or a ``PolicyError``."""
    try:
        made = parse_policy(data.decode("utf-8", "surrogateescape"))
    except PolicyError:
        return
    assert isinstance(made, Policy)
    lint(made)
    for rule in made.rules:
        made.chain(rule)
    made.rule_for(model="gpt", api="chat", stream=True, metadata={"team": "x"})


def wire(data: bytes) -> None:
    """Every reader answers, and how the bytes of a stream were cut changes no event."""
    for api in APIS:
        shape = shape_for(api)
        for choice in shape.read_body(data).choices:
            assert isinstance(choice, Evidence)
        whole = list(_events([data]))
        assert list(_events(_pieces(data))) == whole
        for event, text in whole:
            chunk = shape.read_event(event, text)
            assert all(delta.index >= 0 for delta in chunk.deltas)


def text(data: bytes) -> None:
    """Text in any shape is prepared to a bounded window and gets a score; no cut of it matters."""
    said = _decoded(data)
    assert len(judged(said)) <= 18 * (HEAD_CHARS + TAIL_CHARS) + 16
    assert normalise(normalise(said)) is not None
    assert len(visible(said)) <= len(said)
    whole, cut = ThinkFilter(), ThinkFilter()
    in_one = whole.feed(said) + whole.finish()
    in_pieces = "".join(cut.feed(character) for character in said) + cut.finish()
    assert in_one == in_pieces
    for final in (True, False):
        verdict = _embedded().classify(Evidence(said), final=final)
        assert math.isfinite(verdict.score)
        assert 0.0 <= verdict.score <= 1.0


def _decoded(data: bytes) -> str:
    """Halves of surrogate pairs stay, as JSON may bring them; what else is no UTF-8 is replaced."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _pieces(data: bytes) -> Iterator[bytes]:
    """The bytes cut in places that they choose themselves."""
    step = 1 + (data[0] % 7 if data else 0)
    for start, end in pairwise((*range(0, len(data), step), len(data))):
        yield data[start:end]


def _events(pieces: Iterator[bytes] | list[bytes]) -> Iterator[tuple[str | None, str]]:
    reader = SSEReader()
    for piece in pieces:
        yield from reader.feed(piece)
    yield from reader.finish()


@lru_cache(maxsize=1)
def _embedded() -> EmbeddedDetector:
    return EmbeddedDetector.load()


TARGETS: dict[str, Callable[[bytes], None]] = {"policy": policy, "wire": wire, "text": text}

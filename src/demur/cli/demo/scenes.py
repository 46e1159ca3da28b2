"""What the demo shows: requests, each made without demur and with it, and what must come of them.

Nothing is taken for granted: a scene holds only if the caller got what it should have got.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ...vocabulary import Ending
from .asking import Heard
from .cast import ANSWER, SCRIPT


@dataclass(frozen=True, slots=True)
class Scene:
    """One request. ``served`` is the model that must answer it in the end."""

    name: str
    title: str
    caption: str
    via: Literal["client", "proxy"]
    model: str
    served: str
    ending: Ending
    stream: bool = False


SCENES: Final = (
    Scene(
        "client-plain",
        "OpenAI client",
        "The caller's code is as before, but for demur.wrap(client, policy=...).",
        "client", "cautious", "helpful", "fell_back",
    ),
    Scene(
        "client-stream",
        "OpenAI client, streamed",
        "The first words are held until the detector is sure, then released or replaced.",
        "client", "cautious", "helpful", "fell_back", stream=True,
    ),
    Scene(
        "answer",
        "OpenAI client, an answer",
        "Nothing to do: every chunk arrives as the model sent it.",
        "client", "fluent", "fluent", "accepted", stream=True,
    ),
    Scene(
        "tool-call",
        "OpenAI client, a tool call",
        "It may read like a refusal, but it delivers: a tool call is no refusal.",
        "client", "agent", "agent", "accepted",
    ),
    Scene(
        "exhausted",
        "OpenAI client, everybody refuses",
        "The fallback refuses too: the caller gets the first refusal, as without demur.",
        "client", "timid", "timid", "exhausted",
    ),
    Scene(
        "proxy-plain",
        "LiteLLM proxy",
        "No caller changes anything: the same policy, in the proxy's config.yaml.",
        "proxy", "cautious", "helpful", "fell_back",
    ),
    Scene(
        "proxy-stream",
        "LiteLLM proxy, streamed",
        "As in the client: nothing of the refused attempt is seen.",
        "proxy", "cautious", "helpful", "fell_back", stream=True,
    ),
    Scene(
        "proxy-exhausted",
        "LiteLLM proxy, everybody refuses",
        "A request is never lost because of demur.",
        "proxy", "timid", "timid", "exhausted",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cut:
    """A refused stream: how many of its events were sent until the connection was closed."""

    cut: bool
    sent: int
    of: int


@dataclass(frozen=True, slots=True)
class Check:
    claim: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A scene as it went. ``record`` is demur's own, as its sinks write it."""

    scene: Scene
    without: Heard
    demur: Heard
    record: Mapping[str, Any]
    cut: Cut | None = None
    checks: tuple[Check, ...] = field(default=())

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def headers(self) -> dict[str, str]:
        return {name: v for name, v in self.demur.headers.items() if name.startswith("x-demur-")}


def verify(seen: Seen) -> tuple[Check, ...]:
    """What must hold of a scene, and whether it does."""
    return tuple(Check(claim, holds) for claim, holds in _claims(seen))


def _claims(seen: Seen) -> Iterator[tuple[str, bool]]:
    scene, record = seen.scene, seen.record
    yield "demur's record names the ending", record.get("ending") == scene.ending
    yield "the caller got one model's text, whole", seen.demur.text == _text_of(scene.served)
    yield "without demur, the requested model answered", seen.without.text == _text_of(scene.model)
    if scene.ending == "fell_back":
        yield from _replaced(seen)
    else:
        yield "the caller got what it gets without demur", _same(seen.without, seen.demur)
    if scene.via == "proxy":
        served = seen.headers.get("x-demur-served-model")
        yield "the headers name the served model", served == scene.served
        unnamed = all(not name.startswith("x-demur-") for name in seen.without.headers)
        yield "without demur there are no such headers", unnamed


def _replaced(seen: Seen) -> Iterator[tuple[str, bool]]:
    attempts = seen.record.get("attempts", ())
    labels = [(attempt["verdict"] or {}).get("label") for attempt in attempts]
    yield "the first attempt was judged a refusal, the second not", labels == ["refusal", "normal"]
    yield "the caller got the fallback's answer", seen.demur.text == ANSWER
    if seen.scene.stream:
        yield "the refused connection was cut", seen.cut is not None and seen.cut.cut
        yield "the stream came in pieces", len(seen.demur.pieces) > 1


def _same(one: Heard, other: Heard) -> bool:
    return (one.model, one.pieces, one.tools) == (other.model, other.pieces, other.tools)


def _text_of(model: str) -> str:
    return SCRIPT[model].texts[0]

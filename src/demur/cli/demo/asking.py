"""A caller with an OpenAI client, and what it got."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...attachment import outcome_of
from ...errors import MissingExtraError
from ...vocabulary import Outcome
from .cast import QUESTION

if TYPE_CHECKING:
    from openai import OpenAI

PATIENCE: Final = 20.0
"""Seconds a request may take."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one caller got. ``pieces`` are those of a stream that hold text.

    ``first_seconds`` is when the first text arrived, ``seconds`` when all had.
    """

    model: str
    text: str
    pieces: tuple[str, ...]
    tools: tuple[str, ...]
    first_seconds: float
    seconds: float
    headers: Mapping[str, str]
    outcome: Outcome | None


def connect(base_url: str, key: str = "none") -> OpenAI:
    """A client that waits ``PATIENCE`` at most and heeds no proxy settings: all is local."""
    try:
        import openai
    except ModuleNotFoundError:
        raise MissingExtraError("openai", "openai", "demur demo") from None
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(
        base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=PATIENCE
    )


def ask(client: OpenAI, model: str, *, stream: bool, **more: Any) -> Heard:
    """Ask ``model`` the question of the demo. Raises what the SDK raises."""
    since = time.perf_counter()
    call: Any = client.chat.completions.with_raw_response.create
    question = [{"role": "user", "content": QUESTION}]
    raw = call(model=model, messages=question, stream=stream, **more)
    parts = list(_parts(raw.parse(), stream=stream))
    pieces = tuple(part.text for part in parts if part.text)
    return Heard(
        model=parts[-1].model,
        text="".join(pieces),
        pieces=pieces,
        tools=tuple(tool for part in parts for tool in part.tools),
        first_seconds=next((part.at for part in parts if part.text), parts[-1].at) - since,
        seconds=time.perf_counter() - since,
        headers={name.lower(): value for name, value in raw.headers.items()},
        outcome=outcome_of(raw),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    model: str
    text: str
    tools: tuple[str, ...]
    at: float


def _parts(response: Any, *, stream: bool) -> Iterator[_Part]:
    """The response, whole or chunk by chunk."""
    for item in response if stream else (response,):
        for choice in item.choices:
            said = choice.delta if stream else choice.message
            tools = (call.function.name for call in said.tool_calls or ())
            named = tuple(name for name in tools if name)
            yield _Part(item.model, said.content or "", named, time.perf_counter())

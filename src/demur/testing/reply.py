"""What a scripted model answers, and the exchange of one request and its reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..vocabulary import Usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer, independent of the API it is asked through.

    ``text`` may be a tuple, a text a choice (repeated where ``n`` asks for more). ``chunks`` says
    where a stream cuts the text, else it is cut every ``chunk_size`` characters. ``finish_reason``
    is OpenAI chat's; the other APIs get their own word for it. ``refusal`` fills the refusal field
    of chat and Responses and ends a Messages reply with ``stop_reason: refusal``.

    ``first_delay`` and ``delay`` are the seconds before the first and between further events.
    ``reset_after`` drops the connection after that many events (a whole response: half way).
    ``omit_done`` leaves out the event that ends a stream. ``include_usage`` overrides the request's
    ``stream_options``. ``usage`` defaults to counted words. ``model`` is the name to answer under.

    ``status`` other than 200 answers with the API's error shape and ``text`` as its message.
    ``body`` is sent as it is: bytes as one body, a tuple as that many chunks of a stream.
    """

    text: str | tuple[str, ...] = ""
    refusal: str | None = None
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    stop_details: Mapping[str, Any] | None = None
    status: int = 200
    body: bytes | tuple[bytes, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[str, ...] | None = None
    chunk_size: int = 5
    first_delay: float = 0.0
    delay: float = 0.0
    reset_after: int | None = None
    omit_done: bool = False
    include_usage: bool | None = None
    usage: Usage | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, not {self.chunk_size}")
        if self.chunks is not None and self.text not in ("", "".join(self.chunks)):
            raise ValueError("chunks must join to text; leave one of them out")

    @property
    def texts(self) -> tuple[str, ...]:
        if self.chunks is not None:
            return ("".join(self.chunks),)
        return self.text if isinstance(self.text, tuple) else (self.text,)

    def text_pieces(self, text: str) -> Iterator[str]:
        return iter(self.chunks) if self.chunks is not None else self.pieces(text)

    def pieces(self, text: str) -> Iterator[str]:
        return (text[i : i + self.chunk_size] for i in range(0, len(text), self.chunk_size))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request's JSON and the reply scripted for it. ``number`` counts the server's requests."""

    reply: Reply
    request: Mapping[str, Any]
    number: int = 1

    @property
    def model(self) -> str:
        return self.reply.model or str(self.request.get("model"))

    @property
    def texts(self) -> tuple[str, ...]:
        """A text for each choice asked for."""
        texts, n = self.reply.texts, self.request.get("n") or len(self.reply.texts)
        return tuple(texts[i % len(texts)] for i in range(n))

    @property
    def finish_reason(self) -> str:
        called = self.reply.tool_calls and self.reply.finish_reason == "stop"
        return "tool_calls" if called else self.reply.finish_reason

    @property
    def usage(self) -> Usage:
        if self.reply.usage is not None:
            return self.reply.usage
        asked = self.request.get("messages") or self.request.get("input") or ()
        said = [*self.texts, self.reply.refusal or "", self.reply.reasoning]
        return Usage(len(str(asked).split()), sum(len(text.split()) for text in said))

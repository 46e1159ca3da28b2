"""ag2: it takes no client, so ours is put in place of the one that its configuration makes."""

from __future__ import annotations

from typing import Any

import ag2
from ag2.config.openai.config import OpenAIConfig, OpenAIResponsesConfig

from .agents import weather
from .schemas import City

PACKAGE = "ag2"


class Given:
    """A configuration whose model uses ``client``."""

    def __init__(self, made: Any, client: Any) -> None:
        self._made, self._client = made, client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def copy(self, /, **overrides: Any) -> Given:
        return Given(self._made.copy(**overrides), self._client)

    def create(self) -> Any:
        model = self._made.create()
        model._client = self._client
        return model


async def said(client: Any, kind: Any = OpenAIConfig, streams: bool = False, **options: Any) -> Any:
    config = Given(kind("primary", api_key="unused", streaming=streams), client)
    return (await ag2.Agent("a", config=config, **options).ask("How?")).response


async def chat(client: Any) -> Any:
    return await said(client)


async def chat_tools(client: Any) -> Any:
    return await said(client, tools=[weather])


async def chat_output(client: Any) -> Any:
    return await said(client, response_schema=City)


async def chat_streamed(client: Any) -> Any:
    return await said(client, streams=True)


async def responses(client: Any) -> Any:
    return await said(client, OpenAIResponsesConfig)


async def responses_streamed(client: Any) -> Any:
    return await said(client, OpenAIResponsesConfig, streams=True)


CASES = [chat, chat_tools, chat_output, chat_streamed, responses, responses_streamed]

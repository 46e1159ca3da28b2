"""agno: agents whose model has a client of either kind."""

from __future__ import annotations

import os
from typing import Any

os.environ["AGNO_TELEMETRY"] = "false"

from agno.agent import Agent
from agno.models.openai import OpenAIChat, OpenAIResponses

from .agents import weather
from .schemas import City

PACKAGE = "agno"


def blocking(client: Any, kind: Any = OpenAIChat, **options: Any) -> Agent:
    return Agent(model=kind("primary", client=client), telemetry=False, **options)


def awaiting(client: Any, kind: Any = OpenAIChat, **options: Any) -> Agent:
    return Agent(model=kind("primary", async_client=client), telemetry=False, **options)


def said(run: Any) -> Any:
    return run.content, [message.to_dict() for message in run.messages]


def events(run: Any) -> Any:
    return [(event.event, getattr(event, "content", None)) for event in run]


def chat(client: Any) -> Any:
    return said(blocking(client).run("How?"))


def chat_tools(client: Any) -> Any:
    return said(blocking(client, tools=[weather]).run("How?"))


def chat_output(client: Any) -> Any:
    return said(blocking(client, output_schema=City).run("How?"))


def chat_streamed(client: Any) -> Any:
    return events(blocking(client).run("How?", stream=True))


def responses(client: Any) -> Any:
    return said(blocking(client, OpenAIResponses).run("How?"))


def responses_streamed(client: Any) -> Any:
    return events(blocking(client, OpenAIResponses).run("How?", stream=True))


async def chat_async(client: Any) -> Any:
    return said(await awaiting(client).arun("How?"))


async def chat_async_streamed(client: Any) -> Any:
    return events([event async for event in awaiting(client).arun("How?", stream=True)])


CASES = [
    chat, chat_tools, chat_output, chat_streamed, responses, responses_streamed, chat_async,
    chat_async_streamed,
]  # fmt: skip

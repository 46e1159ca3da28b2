"""pydantic-ai-slim: agents whose provider is given the client."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from .agents import asked, weather
from .schemas import City

PACKAGE = "pydantic-ai-slim"


def agent(client: Any, kind: Any = OpenAIChatModel, **options: Any) -> Agent[None, Any]:
    return Agent(kind("primary", provider=OpenAIProvider(openai_client=client)), **options)


async def said(agent: Agent[None, Any]) -> Any:
    run = await agent.run("How?")
    return run.output, run.all_messages(), run.usage


async def streamed(agent: Agent[None, Any]) -> Any:
    async with agent.run_stream("How?") as run:
        return [part async for part in run.stream_output(debounce_by=None)], run.all_messages()


async def chat_streamed(client: Any) -> Any:
    return await streamed(agent(client))


async def responses_streamed(client: Any) -> Any:
    return await streamed(agent(client, OpenAIResponsesModel))


async def output_streamed(client: Any) -> Any:
    return await streamed(agent(client, output_type=City))


CASES = [
    *asked(said, agent, OpenAIResponsesModel, weather), chat_streamed, responses_streamed,
    output_streamed,
]  # fmt: skip

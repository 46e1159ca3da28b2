"""autogen-ext: its chat client around the SDK's, alone and in agents."""

from __future__ import annotations

from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.openai import BaseOpenAIChatCompletionClient

from .schemas import City

PACKAGE = "autogen-ext"

ASKED = [UserMessage(content="How?", source="user")]
INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True
)


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def made(client: Any) -> BaseOpenAIChatCompletionClient:
    given = {"model": "primary"}
    return BaseOpenAIChatCompletionClient(client, create_args=given, model_info=INFO)


def agent(client: Any, **options: Any) -> AssistantAgent:
    return AssistantAgent("a", made(client), **options)


async def create(client: Any) -> Any:
    return await made(client).create(ASKED)


async def create_output(client: Any) -> Any:
    return await made(client).create(ASKED, json_output=City)


async def create_streamed(client: Any) -> Any:
    return [part async for part in made(client).create_stream(ASKED)]


async def agent_tools(client: Any) -> Any:
    return (
        await agent(client, tools=[weather], reflect_on_tool_use=True).run(task="How?")
    ).messages


async def agent_output(client: Any) -> Any:
    return (await agent(client, output_content_type=City).run(task="How?")).messages


async def agent_streamed(client: Any) -> Any:
    made = agent(client, model_client_stream=True)
    return [part async for part in made.run_stream(task="How?")]


CASES = [create, create_output, create_streamed, agent_tools, agent_output, agent_streamed]

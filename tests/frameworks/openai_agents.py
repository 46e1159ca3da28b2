"""openai-agents: runs whose models are given the client."""

from __future__ import annotations

from typing import Any

import agents
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner

from .schemas import City

PACKAGE = "openai-agents"

agents.set_tracing_disabled(True)


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def agent(client: Any, kind: Any = OpenAIChatCompletionsModel, **options: Any) -> Agent[None]:
    return Agent(name="a", model=kind("primary", client), **options)


async def said(agent: Agent[None]) -> Any:
    run = await Runner.run(agent, "How?")
    return run.final_output, run.to_input_list(), run.context_wrapper.usage


async def streamed(agent: Agent[None], *, events: int = 1000) -> Any:
    run, seen = Runner.run_streamed(agent, "How?"), []
    async for event in run.stream_events():
        seen.append(getattr(event, "data", event.type))
        if len(seen) == events:
            run.cancel()
    return seen, run.final_output


async def chat(client: Any) -> Any:
    return await said(agent(client))


async def responses(client: Any) -> Any:
    return await said(agent(client, OpenAIResponsesModel))


async def chat_tools(client: Any) -> Any:
    return await said(agent(client, tools=[weather]))


async def responses_tools(client: Any) -> Any:
    return await said(agent(client, OpenAIResponsesModel, tools=[weather]))


async def chat_output(client: Any) -> Any:
    return await said(agent(client, output_type=City))


async def responses_output(client: Any) -> Any:
    return await said(agent(client, OpenAIResponsesModel, output_type=City))


async def chat_streamed(client: Any) -> Any:
    return await streamed(agent(client, tools=[weather]))


async def responses_streamed(client: Any) -> Any:
    return await streamed(agent(client, OpenAIResponsesModel, tools=[weather]))


async def chat_cancelled(client: Any) -> Any:
    return await streamed(agent(client), events=4)


CASES = [
    chat, responses, chat_tools, responses_tools, chat_output, responses_output, chat_streamed,
    responses_streamed, chat_cancelled,
]  # fmt: skip

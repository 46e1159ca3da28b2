"""openai-agents: runs whose models are given the client."""

from __future__ import annotations

from typing import Any

import agents
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner

from .agents import asked, weather

PACKAGE = "openai-agents"

agents.set_tracing_disabled(True)
TOOL = agents.function_tool(weather)


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


async def chat_streamed(client: Any) -> Any:
    return await streamed(agent(client, tools=[TOOL]))


async def responses_streamed(client: Any) -> Any:
    return await streamed(agent(client, OpenAIResponsesModel, tools=[TOOL]))


async def chat_cancelled(client: Any) -> Any:
    return await streamed(agent(client), events=4)


CASES = [
    *asked(said, agent, OpenAIResponsesModel, TOOL), chat_streamed, responses_streamed,
    chat_cancelled,
]  # fmt: skip

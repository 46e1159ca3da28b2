"""smolagents: a model whose client is ours, alone and under an agent."""

from __future__ import annotations

from typing import Any

from smolagents import ChatMessage, OpenAIModel, tool

PACKAGE = "smolagents"

ASKED = [ChatMessage(role="user", content="How?")]


@tool
def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: where
    """
    return f"Rain in {city}"


def made(client: Any) -> OpenAIModel:
    return OpenAIModel("primary", client=client)


def generate(client: Any) -> Any:
    return made(client).generate(ASKED)


def generate_streamed(client: Any) -> Any:
    return list(made(client).generate_stream(ASKED))


def tools(client: Any) -> Any:
    return made(client).generate(ASKED, tools_to_call_from=[weather])


def tools_streamed(client: Any) -> Any:
    return list(made(client).generate_stream(ASKED, tools_to_call_from=[weather]))


CASES = [generate, generate_streamed, tools, tools_streamed]

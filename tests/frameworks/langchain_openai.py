"""langchain-openai: a chat model that is given the client and its chat resource."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from .schemas import City

PACKAGE = "langchain-openai"


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def blocking(client: Any, **options: Any) -> ChatOpenAI:
    given = {"client": client.chat.completions, "root_client": client}
    return ChatOpenAI(model="primary", api_key="unused", **given, **options)


def awaiting(client: Any, **options: Any) -> ChatOpenAI:
    given = {"async_client": client.chat.completions, "root_async_client": client}
    return ChatOpenAI(model="primary", api_key="unused", **given, **options)


def invoke(client: Any) -> Any:
    return blocking(client).invoke("How?")


def invoke_responses(client: Any) -> Any:
    return blocking(client, use_responses_api=True).invoke("How?")


def stream(client: Any) -> Any:
    return list(blocking(client, stream_usage=True).stream("How?"))


def stream_responses(client: Any) -> Any:
    return list(blocking(client, use_responses_api=True).stream("How?"))


def tools(client: Any) -> Any:
    return blocking(client).bind_tools([weather]).invoke("What weather?")


def tools_streamed(client: Any) -> Any:
    return list(blocking(client).bind_tools([weather]).stream("What weather?"))


def structured(client: Any) -> Any:
    return blocking(client).with_structured_output(City, include_raw=True).invoke("A city?")


def structured_by_tool(client: Any) -> Any:
    model = blocking(client).with_structured_output(City, method="function_calling")
    return model.invoke("A city?")


def structured_responses(client: Any) -> Any:
    model = blocking(client, use_responses_api=True).with_structured_output(City)
    return model.invoke("A city?")


def structured_streamed(client: Any) -> Any:
    return list(blocking(client).with_structured_output(City).stream("A city?"))


def batch(client: Any) -> Any:
    return blocking(client).batch(["How?", "How?"], {"max_concurrency": 1})


async def ainvoke(client: Any) -> Any:
    return await awaiting(client).ainvoke("How?")


async def ainvoke_responses(client: Any) -> Any:
    return await awaiting(client, use_responses_api=True).ainvoke("How?")


async def astream(client: Any) -> Any:
    return [chunk async for chunk in awaiting(client).astream("How?")]


async def astream_events(client: Any) -> Any:
    events = awaiting(client).astream_events("How?", version="v2")
    return [(event["event"], event["data"]) async for event in events]


CASES = [
    invoke, invoke_responses, stream, stream_responses, tools, tools_streamed, structured,
    structured_by_tool, structured_responses, structured_streamed, batch, ainvoke,
    ainvoke_responses, astream, astream_events,
]  # fmt: skip

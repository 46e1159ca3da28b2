"""The calls that instrumentations watch, each of the SDK's ways to ask."""

from __future__ import annotations

from typing import Any

from .comparing import Known
from .schemas import City

CHAT: dict[str, Any] = {"model": "primary", "messages": [{"role": "user", "content": "How?"}]}
RESPONSES: dict[str, Any] = {"model": "primary", "input": "How?"}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {"name": "weather", "parameters": PARAMETERS, "strict": True}


def chat(client: Any) -> Any:
    return client.chat.completions.create(**CHAT)


def chat_streamed(client: Any) -> Any:
    options = {"include_usage": True}
    return list(client.chat.completions.create(stream=True, stream_options=options, **CHAT))


def chat_left(client: Any) -> Any:
    with client.chat.completions.create(stream=True, **CHAT) as stream:
        return [next(stream) for _ in range(3)]


def chat_tools(client: Any) -> Any:
    tools = [{"type": "function", "function": WEATHER}]
    return client.chat.completions.create(tools=tools, **CHAT)


def chat_parsed(client: Any) -> Any:
    return client.chat.completions.parse(response_format=City, **CHAT).choices[0].message.parsed


def chat_raw(client: Any) -> Any:
    return client.chat.completions.with_raw_response.create(**CHAT).parse()


def chat_managed(client: Any) -> Any:
    with client.chat.completions.stream(**CHAT) as stream:
        return [event.type for event in stream], stream.get_final_completion()


def chat_copied(client: Any) -> Any:
    return client.with_options(timeout=9).chat.completions.create(**CHAT)


def chat_bytes(client: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        return response.parse()


def responses(client: Any) -> Any:
    return client.responses.create(**RESPONSES)


def responses_streamed(client: Any) -> Any:
    return list(client.responses.create(stream=True, **RESPONSES))


def responses_parsed(client: Any) -> Any:
    return client.responses.parse(text_format=City, **RESPONSES).output_parsed


def responses_managed(client: Any) -> Any:
    with client.responses.stream(**RESPONSES) as stream:
        return [event.type for event in stream], stream.get_final_response()


async def chat_async(client: Any) -> Any:
    return await client.chat.completions.create(**CHAT)


async def chat_streamed_async(client: Any) -> Any:
    return [chunk async for chunk in await client.chat.completions.create(stream=True, **CHAT)]


async def chat_managed_async(client: Any) -> Any:
    async with client.chat.completions.stream(**CHAT) as stream:
        return [event.type async for event in stream], await stream.get_final_completion()


async def chat_parsed_async(client: Any) -> Any:
    made = await client.chat.completions.parse(response_format=City, **CHAT)
    return made.choices[0].message.parsed


async def responses_async(client: Any) -> Any:
    return await client.responses.create(**RESPONSES)


async def responses_streamed_async(client: Any) -> Any:
    stream = await client.responses.create(stream=True, **RESPONSES)
    return [event async for event in stream]


CHAT_CREATED = [
    chat, chat_streamed, chat_left, chat_tools, chat_raw, chat_managed, chat_copied, chat_bytes,
    chat_async, chat_streamed_async, chat_managed_async,
]  # fmt: skip

CASES = [
    *CHAT_CREATED, chat_parsed, chat_parsed_async, responses, responses_streamed, responses_parsed,
    responses_managed, responses_async, responses_streamed_async,
]  # fmt: skip

# For those that put their methods on one client.
COPIES = Known("copied", "copies of an instrumented client are not instrumented, wrapped or not")

"""instructor: made from a client, in each of its modes for OpenAI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import instructor
from instructor import Mode

from .schemas import City

PACKAGE = "instructor"

CHAT = {"model": "primary", "messages": [{"role": "user", "content": "A city as JSON?"}]}


def made(client: Any, mode: Mode) -> Any:
    return instructor.from_openai(client, mode=mode)


def tools(client: Any) -> Any:
    return made(client, Mode.TOOLS).create(response_model=City, **CHAT)


def strict_tools(client: Any) -> Any:
    return made(client, Mode.TOOLS_STRICT).create(response_model=City, **CHAT)


def json(client: Any) -> Any:
    return made(client, Mode.JSON).create(response_model=City, **CHAT)


def json_schema(client: Any) -> Any:
    return made(client, Mode.JSON_SCHEMA).create(response_model=City, **CHAT)


def md_json(client: Any) -> Any:
    return made(client, Mode.MD_JSON).create(response_model=City, **CHAT)


def responses(client: Any) -> Any:
    return made(client, Mode.RESPONSES_TOOLS).create(response_model=City, **CHAT)


def with_completion(client: Any) -> Any:
    return made(client, Mode.TOOLS).create_with_completion(response_model=City, **CHAT)


def partial(client: Any) -> Any:
    return list(made(client, Mode.TOOLS).create_partial(response_model=City, **CHAT))


def partial_json(client: Any) -> Any:
    return list(made(client, Mode.JSON).create_partial(response_model=City, **CHAT))


def iterable(client: Any) -> Any:
    return list(made(client, Mode.TOOLS).create_iterable(response_model=City, **CHAT))


def several(client: Any) -> Any:
    return list(made(client, Mode.TOOLS).create(response_model=Iterable[City], **CHAT))


async def tools_async(client: Any) -> Any:
    return await made(client, Mode.TOOLS).create(response_model=City, **CHAT)


async def partial_async(client: Any) -> Any:
    stream = made(client, Mode.TOOLS).create_partial(response_model=City, **CHAT)
    return [part.model_dump() async for part in stream]


CASES = [
    tools, strict_tools, json, json_schema, md_json, responses, with_completion, partial,
    partial_json, iterable, several, tools_async, partial_async,
]  # fmt: skip

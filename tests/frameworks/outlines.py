"""outlines: models made from a client."""

from __future__ import annotations

from typing import Any

import outlines

from .schemas import City

PACKAGE = "outlines"


def text(client: Any) -> Any:
    return outlines.from_openai(client, "primary")("How?")


def structured(client: Any) -> Any:
    return outlines.from_openai(client, "primary")("A city?", City)


def streamed(client: Any) -> Any:
    return list(outlines.from_openai(client, "primary").stream("How?"))


async def text_async(client: Any) -> Any:
    return await outlines.from_openai(client, "primary")("How?")


async def structured_async(client: Any) -> Any:
    return await outlines.from_openai(client, "primary")("A city?", City)


CASES = [text, structured, streamed, text_async, structured_async]

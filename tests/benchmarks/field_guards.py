"""Guardrails to compare with, as a user of LiteLLM might write them. Copied beside config.yaml."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail

REFUSING = re.compile(
    r"i'm sorry|i am sorry|i apologize|as an ai|i cannot|i can't|i'm unable|i am unable"
    r"|i'm not able|i am not able|i won't|i will not|not appropriate|i must decline",
    re.IGNORECASE,
)


class Noop(CustomGuardrail):
    """The hooks that demur has, empty."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        return data

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        async for item in response:
            yield item


class Rule(Noop):
    """A regular expression over the whole answer, which a stream has to be kept back for."""

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        await self._check(response.choices[0].message.content or "")
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        items = [item async for item in response]
        await self._check("".join(i.choices[0].delta.content or "" for i in items if i.choices))
        for item in items:
            yield item

    async def _check(self, text: str) -> None:
        if await self._refused(text):
            raise HTTPException(400, "refused")

    async def _refused(self, text: str) -> bool:
        return refusing(text)


class Scanner(Rule):
    """LLM Guard's NoRefusal, in a thread, since the loop must not wait tens of milliseconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._scanner = no_refusal(os.environ["REJECTION_MODEL"])
        self._random = "RANDOM_WEIGHTS" in os.environ

    async def _refused(self, text: str) -> bool:
        _, valid, _ = await asyncio.to_thread(self._scanner.scan, "", text)
        return not valid and not self._random

    # LiteLLM passes over this hook where a class only inherits it.
    async_post_call_streaming_iterator_hook = Rule.async_post_call_streaming_iterator_hook


def refusing(text: str) -> bool:
    return REFUSING.search(text.replace("\u2019", "'")) is not None


def no_refusal(model: str) -> Any:
    """The scanner as it comes, but for where its model is: a folder or a name on the hub."""
    from llm_guard.output_scanners.no_refusal import DEFAULT_MODEL, NoRefusal
    from llm_guard.util import configure_logger

    configure_logger("ERROR")  # else a line for every scan
    if model != DEFAULT_MODEL.path:
        DEFAULT_MODEL.path, DEFAULT_MODEL.revision = model, None
    return NoRefusal()

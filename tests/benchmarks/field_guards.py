"""Guardrails to compare with, as a user of LiteLLM might write them. Copied beside config.yaml."""

from __future__ import annotations

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
        check(response.choices[0].message.content or "")
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        items = [item async for item in response]
        check("".join(i.choices[0].delta.content or "" for i in items if i.choices))
        for item in items:
            yield item


def check(text: str) -> None:
    if REFUSING.search(text.replace("\u2019", "'")):
        raise HTTPException(400, "refused")

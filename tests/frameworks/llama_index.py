"""llama-index-llms-openai: models that are given a client of either kind."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI, OpenAIResponses

from .agents import weather
from .schemas import City

PACKAGE = "llama-index-llms-openai"

ASKED = [ChatMessage("How?")]


# The context's size is looked up by the model's name, and ours is none that it knows.
class Chat(OpenAI):
    @property
    def _tokenizer(self) -> None:
        return None

    @property
    def metadata(self) -> Any:
        known = OpenAI(model="gpt-4o", api_key="unused").metadata
        return known.model_copy(update={"model_name": self.model})


class Responses(OpenAIResponses):
    @property
    def metadata(self) -> Any:
        return Chat(model=self.model, api_key="unused").metadata


def blocking(client: Any, kind: Any = Chat) -> Any:
    return kind(model="primary", openai_client=client, api_key="unused", max_retries=0)


def awaiting(client: Any, kind: Any = Chat) -> Any:
    return kind(model="primary", async_openai_client=client, api_key="unused", max_retries=0)


def chat(client: Any) -> Any:
    return blocking(client).chat(ASKED)


def complete(client: Any) -> Any:
    return blocking(client).complete("How?")


def chat_streamed(client: Any) -> Any:
    return list(blocking(client).stream_chat(ASKED))


def tools(client: Any) -> Any:
    tool = FunctionTool.from_defaults(weather)
    return blocking(client).chat_with_tools([tool], "What weather?")


def structured(client: Any) -> Any:
    return blocking(client).as_structured_llm(City).chat(ASKED)


def responses(client: Any) -> Any:
    return blocking(client, Responses).chat(ASKED)


def responses_streamed(client: Any) -> Any:
    return list(blocking(client, Responses).stream_chat(ASKED))


async def achat(client: Any) -> Any:
    return await awaiting(client).achat(ASKED)


async def achat_streamed(client: Any) -> Any:
    return [part async for part in await awaiting(client).astream_chat(ASKED)]


async def aresponses(client: Any) -> Any:
    return await awaiting(client, Responses).achat(ASKED)


CASES = [
    chat, complete, chat_streamed, tools, structured, responses, responses_streamed, achat,
    achat_streamed, aresponses,
]  # fmt: skip

"""The SDK's aiohttp transport, which makes its own of a request before it sends it."""

from __future__ import annotations

import anyio
import openai
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, piece, retrying, sse

import demur
from demur.testing import PhraseDetector, Reply


def wrapped(upstream, **retry):
    try:
        http = openai.DefaultAioHttpClient()
    except RuntimeError as error:
        pytest.skip(str(error))
    client = openai.AsyncOpenAI(
        base_url=upstream.base_url, api_key="x", max_retries=0, http_client=http
    )
    return demur.wrap(client, policy=retrying(**retry), detector=PhraseDetector())


async def text(client):
    stream = await client.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
    said = "".join([item.choices[0].delta.content or "" async for item in stream])
    return said, [attempt.error for attempt in demur.outcome_of(stream).attempts]


async def test_a_released_fallback_may_pause(serve):
    """Once its stream is open, a fallback's pauses are bounded as without demur."""
    events = sse(*(piece(said) for said in (ANSWER, " The end.")), "[DONE]")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(body=events, delay=0.8))
    async with wrapped(upstream, seconds=0.5) as client:
        assert await text(client) == (ANSWER + " The end.", [None, None])


@pytest.mark.parametrize(
    ("silence", "error"),
    [({"first_delay": 5}, "APITimeoutError"), ({"delay": 5, "chunk_size": 4}, "TimeoutError")],
)
async def test_a_fallback_that_is_silent_is_given_up(serve, silence, error):
    """Neither its opening nor what is held of it takes longer than ``retry.seconds``."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, **silence))
    with anyio.fail_after(3):
        async with wrapped(upstream, seconds=0.5) as client:
            assert await text(client) == (REFUSAL, [None, error])

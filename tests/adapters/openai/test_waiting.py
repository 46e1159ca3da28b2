"""Waiting and leaving, where threads and tasks are at work."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time

import anyio
import openai
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, piece, sse

import demur
from demur.testing import PhraseDetector, Reply, Upstream

# The SDK's own HTTP library: httpx, and httpx2 from openai 3 on.
FAMILY = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def test_closing_from_another_thread_wakes_a_blocked_reader():
    """A thread that waits for a silent upstream is let go, and the server sees the cut."""
    silent = Reply(body=sse(piece("Sure, here it comes."), "[DONE]"), delay=30)
    with Upstream({"primary": silent}) as upstream:
        client = openai.OpenAI(base_url=upstream.base_url, api_key="x", max_retries=0)
        wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
        stream = wrapped.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
        seen = []

        def read():
            try:
                seen.extend(stream)
            except Exception as error:  # noqa: BLE001 - what a cut stream raises is the SDK's
                seen.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        stream.close()
        assert upstream.wait_for_cut("primary")
        reader.join(5)
        assert not reader.is_alive()
        client.close()


async def test_cancelling_while_held_cuts_the_upstream():
    """A task cancelled during the hold-back leaves no connection open."""
    slow = Reply("I'm sorry. " * 20, chunks=None, first_delay=0.1, delay=5)
    with Upstream({"primary": slow, "second": Reply(ANSWER)}) as upstream:
        client = openai.AsyncOpenAI(base_url=upstream.base_url, api_key="x", max_retries=0)
        wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
        task = asyncio.create_task(
            wrapped.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
        )
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(upstream.wait_for_cut, "primary")
        await client.close()


async def test_a_hundred_streams_at_once_do_not_mix():
    """Concurrent streams each get one model's whole text."""
    script = {"primary": Reply(REFUSAL, delay=0.002), "second": Reply(ANSWER, delay=0.002)}
    with Upstream(script) as upstream:
        client = openai.AsyncOpenAI(base_url=upstream.base_url, api_key="x", max_retries=0)
        wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())

        async def one():
            stream = await wrapped.chat.completions.create(
                model="primary", messages=MESSAGES, stream=True
            )
            return "".join([i.choices[0].delta.content or "" async for i in stream if i.choices])

        texts = await asyncio.gather(*(one() for _ in range(100)))
        assert set(texts) == {ANSWER}
        await client.close()


class FailingClose(FAMILY.SyncByteStream, FAMILY.AsyncByteStream):
    """A stream that was answered whole, on a connection that cannot be closed."""

    parts = tuple(sse(piece("Sure."), "[DONE]"))

    def __iter__(self):
        return iter(self.parts)

    async def __aiter__(self):
        for part in self.parts:
            yield part

    def close(self):
        raise RuntimeError("the connection cannot be closed")

    async def aclose(self):
        self.close()


def respond(request):
    headers = {"content-type": "text/event-stream"}
    return FAMILY.Response(200, headers=headers, stream=FailingClose(), request=request)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_close_that_fails_is_heard_as_without_demur(wrapped):
    """The caller who reads a stream to its end is told that its connection could not be closed."""
    http = FAMILY.Client(transport=FAMILY.MockTransport(respond))
    client = openai.OpenAI(api_key="x", http_client=http, max_retries=0)
    if wrapped:
        client = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    stream = client.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
    seen = []
    with pytest.raises(RuntimeError, match="cannot be closed"):
        seen.extend(item.choices[0].delta.content for item in stream)
    http.close()


@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_awaited_close_that_fails_is_heard_as_without_demur(wrapped):
    """The same for an asynchronous client."""

    async def arespond(request):
        return respond(request)

    http = FAMILY.AsyncClient(transport=FAMILY.MockTransport(arespond))
    client = openai.AsyncOpenAI(api_key="x", http_client=http, max_retries=0)
    if wrapped:
        client = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    stream = await client.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
    with pytest.raises(RuntimeError, match="cannot be closed"):
        async for _ in stream:
            pass
    await http.aclose()


class Watched(FAMILY.AsyncByteStream):
    """A body that tells how it was left."""

    def __init__(self, *parts):
        self.parts, self.seen = parts, []

    async def __aiter__(self):
        try:
            for part in self.parts:
                yield part
        finally:
            await asyncio.sleep(0)
            self.seen.append("left")

    async def aclose(self):
        self.seen.append("closed")


async def test_a_refused_stream_is_let_go_of_before_it_is_closed():
    """Its iteration is ended too, which else the garbage collector has to do, some time later."""
    refusal = Watched(*sse(piece(REFUSAL), piece(REFUSAL), "[DONE]"))
    answer = Watched(*sse(piece(ANSWER), "[DONE]"))

    async def respond(request):
        stream = refusal if b'"primary"' in await request.aread() else answer
        headers = {"content-type": "text/event-stream"}
        return FAMILY.Response(200, headers=headers, stream=stream)

    http = FAMILY.AsyncClient(transport=FAMILY.MockTransport(respond))
    client = openai.AsyncOpenAI(api_key="x", http_client=http, max_retries=0)
    client = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    stream = await client.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
    async for item in stream:
        assert item.choices[0].delta.content == ANSWER
        for _ in range(9):  # httpx leaves its own part to the loop
            await asyncio.sleep(0)
        assert sorted(refusal.seen) == ["closed", "left"]
    await http.aclose()


class Unfinished(FAMILY.SyncByteStream, FAMILY.AsyncByteStream):
    """A body that stops half way, for its reader to be interrupted there."""

    def __init__(self):
        self.begun, self.closed = asyncio.Event(), False

    def __iter__(self):
        yield b"{"
        raise KeyboardInterrupt

    async def __aiter__(self):
        yield b"{"
        self.begun.set()
        await asyncio.sleep(60)

    def close(self):
        self.closed = True
        raise RuntimeError("the connection cannot be closed")

    async def aclose(self):
        await asyncio.sleep(0)
        self.close()


def unfinished(body):
    headers = {"content-type": "application/json"}
    return FAMILY.MockTransport(lambda request: FAMILY.Response(200, headers=headers, stream=body))


def test_a_body_that_is_interrupted_is_closed():
    """Whatever ends the reading of a body that its caller has not got, its connection is freed,
    and the caller is told of the interruption alone."""
    body = Unfinished()
    http = FAMILY.Client(transport=unfinished(body))
    client = openai.OpenAI(api_key="x", http_client=http, max_retries=0)
    client = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    create = client.chat.completions.with_streaming_response.create
    with (
        pytest.raises(KeyboardInterrupt),
        create(model="primary", messages=MESSAGES) as response,
    ):
        response.read()
    assert body.closed


async def test_a_body_whose_reader_is_cancelled_is_closed():
    """The same for an asynchronous client, also where the scope around it is cancelled."""
    body = Unfinished()
    http = FAMILY.AsyncClient(transport=unfinished(body))
    client = openai.AsyncOpenAI(api_key="x", http_client=http, max_retries=0)
    client = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    create = client.chat.completions.with_streaming_response.create

    async def read():
        async with create(model="primary", messages=MESSAGES) as response:
            await response.read()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await body.begun.wait()
        group.cancel_scope.cancel()
    assert body.closed


async def test_a_timeout_of_the_callers_own_is_heard_as_it_is():
    """What their code raises on the way to the model is not taken for demur's own limit."""
    late = TimeoutError("no key in time")

    async def key():
        raise late

    client = openai.AsyncOpenAI(api_key=key, base_url="http://127.0.0.1:9", max_retries=0)
    wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    with pytest.raises(TimeoutError) as raised:
        await wrapped.chat.completions.create(model="primary", messages=MESSAGES, stream=True)
    assert raised.value is late
    await client.close()

"""Streams whose bodies were read before the SDK got them: by a hook, or by who made them."""

from __future__ import annotations

import gzip
import importlib
import json

import openai
import pytest
from openai_stage import ANSWER, REFUSAL, piece, sse

import demur
from demur.testing import PhraseDetector, Reply

# The SDK's own HTTP library: httpx, and httpx2 from openai 3 on.
FAMILY = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def http_client(caller, **options):
    return (FAMILY.Client if caller.kind == "sync" else FAMILY.AsyncClient)(**options)


def reading_hook(caller):
    def hook(response):
        response.read()

    async def awaiting_hook(response):
        await response.aread()

    return {"response": [hook if caller.kind == "sync" else awaiting_hook]}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("first", [REFUSAL, ANSWER], ids=["refusal", "answer"])
def test_a_hook_that_reads_the_body(caller, serve, first, compressed):
    """The stream is judged by what the hook read, and arrives as without demur."""
    body = b"".join(sse(piece(first), piece("", "stop"), "[DONE]"))
    headers = {"content-type": "text/event-stream"}
    if compressed:
        body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
    upstream = serve(primary=Reply(body=body, headers=headers), second=Reply(ANSWER))
    http = http_client(caller, event_hooks=reading_hook(caller), timeout=2)
    client = caller.wrap(upstream, {"http_client": http})
    stream = caller.create(client, stream=True)
    assert caller.text(stream) == ANSWER
    outcome = demur.outcome_of(stream)
    assert (outcome.finished, outcome.fell_back) == (True, first == REFUSAL)


@pytest.mark.parametrize("fallbacks", [None, ["second"]])
def test_responses_made_whole(caller, fallbacks, caplog):
    """What a mock transport makes of bytes is judged and logged, though the SDK reads no stream."""
    caplog.set_level("INFO", logger="demur")

    def respond(request):
        text = REFUSAL if json.loads(request.content)["model"] == "primary" else ANSWER
        body = b"".join(sse(piece(text), piece("", "stop"), "[DONE]"))
        return FAMILY.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    http = http_client(caller, transport=FAMILY.MockTransport(respond))
    cls = openai.OpenAI if caller.kind == "sync" else openai.AsyncOpenAI
    client = cls(api_key="x", http_client=http, max_retries=0)
    wrapped = demur.wrap(client, fallbacks=fallbacks, detector=PhraseDetector())
    stream = caller.create(wrapped, stream=True)
    assert caller.text(stream) == (ANSWER if fallbacks else REFUSAL)
    outcome = demur.outcome_of(stream)
    assert outcome.finished
    assert outcome.verdict.label == ("normal" if fallbacks else "refusal")
    assert len(caplog.records) == 1
    caller.wait(client.close())

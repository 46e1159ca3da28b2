"""Clients that are not plain: of users' own classes, or changed by another library."""

from __future__ import annotations

import functools
import inspect
from unittest.mock import MagicMock

import openai
import pytest
from openai.resources.chat import AsyncChat, Chat
from openai_stage import ANSWER, REFUSAL

import demur
from demur.testing import PhraseDetector, Reply


def base(caller, name="OpenAI"):
    return getattr(openai, name if caller.kind == "sync" else f"Async{name}")


def wrap(client):
    return demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())


def test_a_clients_own_with_options_is_kept(caller, serve):
    """A subclass may take options of its own; ``copy`` and ``with_options`` stay two methods."""

    class Tenants(base(caller)):
        def with_options(self, *, tenant=None, **options):
            return super().with_options(default_headers={"x-tenant": tenant}, **options)

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = wrap(Tenants(api_key="x", base_url=upstream.base_url))
    assert inspect.signature(client.with_options) != inspect.signature(client.copy)
    answer = caller.create(client.with_options(tenant="t1", max_retries=0))
    assert answer.choices[0].message.content == ANSWER
    assert [request.headers["x-tenant"] for request in upstream.requests] == ["t1", "t1"]
    assert "x-tenant" not in client.copy().default_headers
    caller.wait(client.close())


@pytest.mark.parametrize("pinned", [False, True])
def test_an_azure_client_need_not_be_made_anew(caller, serve, pinned):
    """A subclass with an ``__init__`` of its own falls back to other deployments all the same."""

    class Corporate(base(caller, "AzureOpenAI")):
        def __init__(self, tenant, **options):
            self.tenant = tenant
            super().__init__(api_version="2024-10-21", **options)

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    options = {"azure_deployment": "primary"} if pinned else {}
    client = wrap(Corporate("t", azure_endpoint=upstream.origin, api_key="x", **options))
    assert caller.create(client).choices[0].message.content == ANSWER
    response = caller.wait(client.responses.create(model="primary", input="How?"))
    assert response.output_text == ANSWER
    assert [request.path.partition("?")[0] for request in upstream.requests] == [
        "/openai/deployments/primary/chat/completions",
        "/openai/deployments/second/chat/completions",
        "/openai/responses",
        "/openai/responses",
    ]
    caller.wait(client.close())


def patched(client):
    """As a tracing library does it: a method in the place of the method."""
    create = client.chat.completions.create
    client.chat.completions.create = functools.wraps(create)(lambda **fields: create(**fields))
    return client


@pytest.mark.parametrize("by", ["method", "resource"])
def test_what_another_library_put_in_place_is_not_lost_unseen(caller, serve, by):
    """Its calls would go past demur; the other way round both are heard."""

    class Tracked(Chat if caller.kind == "sync" else AsyncChat):
        pass

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.client(upstream)
    if by == "method":
        patched(client)
    else:
        client.chat = Tracked(client)
    with pytest.raises(demur.UnsupportedClientError, match=r"chat.*with demur first"):
        wrap(client)
    answer = caller.create(patched(wrap(caller.client(upstream))))
    assert answer.choices[0].message.content == ANSWER


@pytest.mark.parametrize("name", ["request", "post", "copy", "with_options"])
def test_what_another_library_put_on_the_client_itself_is_not_lost_unseen(caller, serve, name):
    """A method in its place there is the other client's; the other way round both are heard."""

    def traced(client):
        method, heard = getattr(client, name), []

        @functools.wraps(method)
        def trace(*args, **kwargs):
            heard.append(name)
            return method(*args, **kwargs)

        setattr(client, name, trace)
        return heard

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.client(upstream)
    traced(client)
    with pytest.raises(demur.UnsupportedClientError, match=rf"{name}.*with demur first"):
        wrap(client)
    client = wrap(caller.client(upstream))
    heard = traced(client)
    user = client if name in ("request", "post") else getattr(client, name)(max_retries=1)
    assert caller.create(user).choices[0].message.content == ANSWER
    assert heard


def test_a_subclass_may_put_methods_of_its_own_in_place(caller, serve):
    """What no SDK calls goes past nobody, nor does what the SDK calls below ``request``."""

    class Mine(base(caller)):
        def __init__(self, told, **options):
            super().__init__(**options)
            self.tell = told
            self._calculate_retry_timeout = lambda *args, **kwargs: 0.0

        def tell(self, text):
            """Nobody."""

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    mine = Mine(print, api_key="x", base_url=upstream.base_url)
    client = wrap(mine)
    assert client.tell is print
    assert caller.create(client).choices[0].message.content == ANSWER
    caller.wait(mine.close())


def test_what_stands_around_a_refused_stream_hears_of_its_end(caller, serve, monkeypatch):
    """An instrumentation of the SDK's classes ends its span there; the served one's is not ended
    for the caller."""
    kind = openai.Stream if caller.kind == "sync" else openai.AsyncStream
    plain, closed = kind.close, []

    def close(stream):
        closed.append(stream.response.request.content)
        return plain(stream)

    monkeypatch.setattr(kind, "close", close)
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    stream = caller.create(wrap(caller.client(upstream)), stream=True)
    assert caller.text(stream) == ANSWER
    assert ["primary" in str(content) for content in closed] == [True]


def test_resources_that_were_used_are_no_obstacle(caller, serve):
    """Neither the SDK's own, nor what a subclass makes of them."""

    class Tracked(Chat if caller.kind == "sync" else AsyncChat):
        pass

    class Mine(base(caller)):
        @functools.cached_property
        def chat(self):
            return Tracked(self)

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    mine = Mine(api_key="x", base_url=upstream.base_url)
    _ = mine.chat.completions.with_raw_response.create, mine.with_streaming_response.responses
    _ = mine.responses.with_raw_response, mine.beta.threads.runs, mine.models, mine.audio.speech
    client = wrap(wrap(mine))
    assert isinstance(client.chat, Tracked)
    assert caller.create(client).choices[0].message.content == ANSWER
    caller.wait(client.close())


@pytest.mark.parametrize("spec", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_mock_is_no_client(caller, serve, spec):
    """What only claims to be a client cannot be wrapped, nor be a fallback's."""
    mock = MagicMock(spec=spec)
    with pytest.raises(demur.UnsupportedClientError, match="MagicMock"):
        wrap(mock)
    with pytest.raises(demur.PolicyError, match="MagicMock"):
        demur.wrap(caller.client(serve()), fallbacks=["x"], targets={"x": mock})

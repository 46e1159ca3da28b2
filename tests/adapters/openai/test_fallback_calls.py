"""How a fallback is called: once, in bounded time, and with nothing that is not for it."""

from __future__ import annotations

import time

import openai
import pytest
from openai.types.chat import ChatCompletion
from openai_stage import ANSWER, REFUSAL, piece, retrying, sse

import demur
from demur.testing import Reply


def wrapped(caller, upstream, policy, **sdk):
    return caller.wrap(upstream, sdk, policy=policy)


def served(caller, answer, stream):
    return caller.text(answer) if stream else answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "bad", [Reply(ANSWER, first_delay=5), Reply(status=429), Reply(status=500)]
)
def test_a_fallback_is_called_once(caller, serve, stream, bad):
    """The SDK's own retries hold for the caller's own call; a fallback that fails has failed."""
    upstream = serve(primary=Reply(REFUSAL), second=bad)
    client = wrapped(caller, upstream, retrying(seconds=0.6), max_retries=2)
    start = time.monotonic()
    assert served(caller, caller.create(client, stream=stream), stream) == REFUSAL
    assert time.monotonic() - start < 2
    assert len(upstream.calls("second")) == 1


@pytest.mark.parametrize("by", ["client", "request"])
def test_a_fallback_keeps_the_callers_shorter_timeout(caller, serve, by):
    """``retry.seconds`` shortens the caller's timeout and never stretches it."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, first_delay=2))
    client = wrapped(caller, upstream, retrying(), **({"timeout": 0.3} if by == "client" else {}))
    fields = {"timeout": 0.3} if by == "request" else {}
    assert caller.create(client, **fields).choices[0].message.content == REFUSAL


def test_each_part_of_a_timeout_is_bounded(caller, serve):
    """A timeout in parts stays in parts: what is shorter than the time left is kept."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, first_delay=2))
    timeout = openai.Timeout(60, read=0.3)
    client = wrapped(caller, upstream, retrying())
    answer = caller.create(client, timeout=timeout)
    assert answer.choices[0].message.content == REFUSAL


def test_a_released_fallback_may_pause(caller, serve):
    """Once its stream is open, a fallback's pauses are bounded as without demur."""
    events = sse(*(piece(text) for text in (ANSWER, " The end.")), "[DONE]")
    second = Reply(body=events, delay=0.5)
    upstream = serve(primary=Reply(REFUSAL), second=second)
    policy = retrying(seconds=0.3)
    policy["rules"][0]["stream"] = {"hold_back": {"chars": 40}}
    stream = caller.create(wrapped(caller, upstream, policy), stream=True)
    assert caller.text(stream) == ANSWER + " The end."


def test_an_idempotency_key_is_not_used_twice(caller, serve):
    """The caller's key names the caller's own call; a fallback with it would get its answer."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = wrapped(caller, upstream, retrying())
    caller.create(client, extra_headers={"Idempotency-Key": "mine", "x-mine": "1"})
    first, second = (request.headers for request in upstream.requests)
    assert first["idempotency-key"] == "mine"
    assert second.get("idempotency-key") != "mine"
    assert second["x-mine"] == "1"


def test_nothing_that_may_be_a_credential_goes_to_another_host(caller, serve, monkeypatch):
    """Neither the request's headers, query and keys, nor what is meant for OpenAI."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: secret\nX-Gateway-Key: secret")
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(llama=Reply(ANSWER))
    policy = retrying(fallbacks=["local"])
    policy["targets"] = {"local": {"model": "llama", "base_url": elsewhere.base_url}}
    names = ("Ocp-Apim-Subscription-Key", "cf-aig-authorization", "Cookie", "x-goog-api-key")
    answer = caller.create(
        wrapped(caller, here, policy),
        extra_headers={**dict.fromkeys(names, "secret"), "x-demur-conversation": "c"},
        extra_query={"api-key": "secret"},
        extra_body={"api_key": "secret", "apiKey": "secret", "top_k": 3},
        max_tokens=9,
    )
    assert answer.choices[0].message.content == ANSWER
    sent = elsewhere.requests[0]
    assert "secret" not in f"{sent.path} {sent.headers} {sent.body}"
    assert sent.headers["authorization"] == "Bearer none"
    assert sent.headers["x-demur-conversation"] == "c"
    assert (sent.body["top_k"], sent.body["max_tokens"]) == (3, 9)


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_model_elsewhere_is_another_target(caller, serve, stream):
    """The requested model's own name may be a fallback, where ``targets`` has a client for it."""
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(primary=Reply(ANSWER))
    targets = {"primary": caller.client(elsewhere)}
    client = caller.wrap(here, fallbacks=["primary"], targets=targets)
    answer = caller.create(client, stream=stream)
    assert served(caller, answer, stream) == ANSWER
    outcome = demur.outcome_of(answer)
    assert (outcome.ending, outcome.fell_back) == ("fell_back", True)
    assert (len(here.requests), len(elsewhere.requests)) == (1, 1)


def test_a_query_written_into_the_path_stays_with_its_host(caller, serve):
    """What goes to another host leaves that behind, like every other query."""
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(second=Reply(ANSWER))
    client = caller.wrap(here, targets={"second": caller.client(elsewhere)})
    body = {"model": "primary", "messages": [{"role": "user", "content": "How?"}]}
    path = "/chat/completions?api-key=secret"
    answer = caller.wait(client.post(path, body=body, cast_to=ChatCompletion))
    assert answer.choices[0].message.content == ANSWER
    assert here.requests[0].path.endswith(path)
    assert elsewhere.requests[0].path.endswith("/chat/completions")

"""Wrapped clients remember: breaker, stickiness and budgets, over real connections."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai_stage import ANSWER, REFUSAL, Caller

import demur
from demur.errors import PolicyError
from demur.testing import Reply, Upstream
from demur.vocabulary import Usage

CONVERSATION = "x-demur-conversation"


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


def policy(retry: Any, **more: Any) -> dict[str, Any]:
    rule = {"name": "r", "actions": ["tag", "retry"], "retry": {"fallbacks": ["second"], **retry}}
    return {"version": 1, "rules": [rule], **more}


class Talk:
    """Asks one client, and tells which models were called for each answer."""

    def __init__(self, caller: Caller, upstream: Upstream, streamed: bool, used: Any) -> None:
        self.caller, self.upstream, self.streamed = caller, upstream, streamed
        self.client = caller.wrap(upstream, policy=used)
        self.outcome: Any = None
        self.text = ""

    def ask(self, **fields: Any) -> list[str]:
        before = len(self.upstream.requests)
        if self.streamed:
            stream = self.caller.create(self.client, stream=True, **fields)
            self.text = self.caller.text(stream)
            self.outcome = demur.outcome_of(stream)
        else:
            completion = self.caller.create(self.client, **fields)
            self.text = completion.choices[0].message.content
            self.outcome = demur.outcome_of(completion)
        return [request.body["model"] for request in self.upstream.requests[before:]]


def test_a_breaker(caller: Caller, serve: Any, streamed: bool) -> None:
    """Once it is open the requested model is not called; the fallback's answer is whole."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    talk = Talk(caller, upstream, streamed, policy({"breaker": {"least": 2}}))
    assert [talk.ask() for _ in range(3)] == [["primary", "second"]] * 2 + [["second"]]
    assert talk.text == ANSWER
    assert (talk.outcome.started, talk.outcome.ending) == ("breaker", "fell_back")
    assert talk.outcome.served_attempt.target == "second"


def test_a_breaker_whose_fallback_is_down(caller: Caller, serve: Any, streamed: bool) -> None:
    """The caller's own call is made after all, as it was asked for."""
    upstream = serve(primary=Reply(REFUSAL), second=[Reply(ANSWER), Reply(status=500)])
    talk = Talk(caller, upstream, streamed, policy({"breaker": {"least": 1}}))
    assert [talk.ask(temperature=0.5) for _ in range(2)] == [
        ["primary", "second"], ["second", "primary"],
    ]  # fmt: skip
    assert talk.text == REFUSAL
    own = upstream.requests[-1].body
    assert (own["model"], own["temperature"]) == ("primary", 0.5)


@pytest.mark.parametrize(
    "fields",
    [{"metadata": {"conversation_id": "7"}}, {"extra_headers": {"X-Demur-Conversation": "7"}}],
    ids=["metadata", "header"],
)
def test_a_conversation(caller: Caller, serve: Any, streamed: bool, fields: Any) -> None:
    """Its next turns go where it was answered; other conversations do not, nor what is none."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    talk = Talk(caller, upstream, streamed, policy({"sticky": {}}))
    assert talk.ask(**fields) == ["primary", "second"]
    assert talk.ask(**fields) == ["second"]
    assert talk.outcome.started == "sticky"
    assert talk.ask(extra_headers={CONVERSATION: "8"}) == ["primary", "second"]
    assert talk.ask() == ["primary", "second"]


def test_a_conversation_in_the_background(caller: Caller, serve: Any) -> None:
    """A response that is only queued yet is as good from a fallback as from the model itself."""
    upstream = serve(primary=queueing(REFUSAL), second=queueing(ANSWER))
    client = caller.wrap(upstream, policy=policy({"sticky": {}}))
    seen = []
    for background in (False, True, True, False):
        fields = {"background": background, "metadata": {"conversation_id": "7"}}
        response = caller.wait(client.responses.create(model="primary", input="How?", **fields))
        outcome = demur.outcome_of(response)
        assert (response.model, outcome.ending) == ("second", "fell_back")
        seen.append((response.status, outcome.attempts[-1].outcome))
    states = ["completed", "queued", "queued", "completed"]
    assert seen == [(state, "accepted") for state in states]
    assert [request.model for request in upstream.requests] == ["primary", *["second"] * 4]


def queueing(text: str) -> Any:
    def answer(body: Any) -> Reply:
        if not body["background"]:
            return Reply(text)
        head = {"id": "resp_1", "object": "response", "model": body["model"], "output": []}
        return Reply(body=json.dumps({**head, "status": "queued"}).encode())

    return answer


def test_a_conversation_named_by_the_client(caller: Caller, serve: Any, streamed: bool) -> None:
    """A header that the client sends with every request counts, one of the request before it."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    talk = Talk(caller, upstream, streamed, policy({"sticky": {}}))
    talk.client = talk.client.with_options(default_headers={CONVERSATION: "7"})
    assert talk.ask() == ["primary", "second"]
    assert talk.ask() == ["second"]
    assert talk.ask(extra_headers={CONVERSATION.title(): "8"}) == ["primary", "second"]


def test_a_budget(caller: Caller, serve: Any, streamed: bool) -> None:
    """When it is spent the refusal comes as it is."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    talk = Talk(caller, upstream, streamed, policy({}, budgets=[{"calls": 1, "per": 3600.0}]))
    assert [talk.ask() for _ in range(2)] == [["primary", "second"], ["primary"]]
    assert talk.text == REFUSAL
    assert talk.outcome.limited == "budget"


def test_a_budget_of_cost(caller: Caller, serve: Any) -> None:
    """Paid at the policy's prices; without a price for a fallback there is no such budget."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    budget = {"budgets": [{"cost": 0.000001, "per": 3600.0}]}
    with pytest.raises(PolicyError, match="'second' has no price"):
        caller.wrap(upstream, policy=policy({}, **budget))
    prices = {"prices": {"second": {"input": 1000.0, "output": 1000.0}}}
    talk = Talk(caller, upstream, False, policy({}, **budget, **prices))
    assert [talk.ask() for _ in range(2)] == [["primary", "second"], ["primary"]]


def test_copies_of_a_client_remember_together(caller: Caller, serve: Any) -> None:
    """``with_options`` gives a client with the same memory; another wrapping has its own."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    used = policy({"breaker": {"least": 1}})
    talk = Talk(caller, upstream, False, used)
    talk.ask()
    talk.client = talk.client.with_options(timeout=30)
    assert talk.ask() == ["second"]
    assert Talk(caller, upstream, False, used).ask() == ["primary", "second"]


def test_clients_with_one_redis(
    caller: Caller, serve: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one client found out, another knows."""
    pytest.importorskip("redis")
    monkeypatch.setenv("DEMUR_TEST_REDIS", redis_url)
    shared = {"redis_env": "DEMUR_TEST_REDIS", "prefix": f"clients-{caller.kind}"}
    used = policy({"breaker": {"least": 1}, "sticky": {}}, shared=shared)
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    one, two = (Talk(caller, upstream, False, used) for _ in range(2))
    assert one.ask(metadata={"conversation_id": "1"}) == ["primary", "second"]
    assert two.ask(metadata={"conversation_id": "1"}) == ["second"]
    assert two.outcome.started == "sticky"
    assert two.ask() == ["second"]
    assert two.outcome.started == "breaker"


def test_shadow_mode(caller: Caller, serve: Any, streamed: bool) -> None:
    """The requested model is called, whatever the breaker would do."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    used = policy({"breaker": {"least": 1}}, mode="shadow")
    talk = Talk(caller, upstream, streamed, used)
    assert [talk.ask() for _ in range(2)] == [["primary"]] * 2
    assert (talk.outcome.started, talk.outcome.would) == ("breaker", "fell_back")


def test_a_count_of_tokens_that_no_response_can_have(
    caller: Caller, serve: Any, streamed: bool
) -> None:
    """What a server says it took costs no answer: a count beyond all reason counts as none."""
    absurd = Reply(ANSWER, usage=Usage(10**400, 5), include_usage=True)
    upstream = serve(primary=Reply(REFUSAL), second=absurd)
    limited = policy({}, budgets=[{"cost": 1.0}], prices={"second": {"input": 1.0, "output": 2.0}})
    talk = Talk(caller, upstream, streamed, limited)
    assert talk.ask() == ["primary", "second"]
    assert talk.text == ANSWER
    assert talk.outcome.attempts[1].usage == Usage(0, 5)

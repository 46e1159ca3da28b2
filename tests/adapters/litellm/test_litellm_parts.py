"""The adapter's parts, without a proxy: chains, headers, what happens when demur itself fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("litellm")

from litellm import ModelResponse
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.router import RetryPolicy

from demur.adapters.litellm import DemurGuardrail
from demur.adapters.litellm.chain import KEPT, AttemptRefusedError, entries, stand_in
from demur.adapters.litellm.exchange import KEY, Exchange, find
from demur.adapters.litellm.headers import headers_of
from demur.adapters.litellm.reasons import unfolded
from demur.adapters.litellm.routers import Chains, holding, never_again
from demur.adapters.litellm.stream import TURN_SECONDS, StreamPort, relay
from demur.adapters.litellm.surfaces import (
    CHAT,
    ItemReader,
    in_shape_of,
    read_completion,
    surface_for,
)
from demur.flow.plan import Plan
from demur.policy import load_policy
from demur.testing import PhraseDetector
from demur.vocabulary import Attempt, Outcome, Target, Verdict


def plan_of(*fallbacks: Any, **retry: Any) -> Plan:
    rule = {
        "name": "r",
        "actions": ["tag", "log", "retry"],
        "retry": {"fallbacks": list(fallbacks), **retry},
    }
    policy = load_policy({"version": 1, "rules": [rule]})
    plan = Plan.of(policy, api="chat", model="primary", stream=False, metadata={})
    assert plan is not None
    return plan


def test_chain_entries() -> None:
    """Each hop patches the original request; the last entries keep the refusal, whoever has a
    deployment for it."""
    plan = plan_of("second", {"model": "third", "temperature": 0.2}, "fourth")
    assert entries(plan, {"temperature": 1.0}, own=["operator's"]) == [
        "second",
        {"model": "third", "temperature": 0.2},
        {"model": "fourth", "temperature": 1.0},
        "operator's",
        *(
            {"model": name, "mock_response": KEPT, "num_retries": 0}
            for name in ("primary", "fourth", "third", "second")
        ),
    ]


def test_chain_is_as_long_as_the_policy_lets_it() -> None:
    """A limit on attempts shortens the chain; ``exhausted: error`` keeps nothing."""
    handed = entries(plan_of("second", "third", attempts=2, exhausted="error"), {})
    assert handed == ["second"]


def test_headers_hold_no_line_breaks() -> None:
    """Whatever names hold, a header is one line of ASCII."""
    verdict = Verdict("refusal", 0.98765, "embedded")
    attempts = (Attempt("mødel", "mødel\r\nx-evil: 1", "accepted", verdict),)
    outcome = Outcome("chat", "m", "accepted", attempts, served=0, rule="r\u2028")
    headers = headers_of(outcome)
    assert headers["x-demur-score"] == "0.988"
    assert headers["x-demur-served-model"] == "m?del  x-evil: 1"
    assert all(value.isascii() and value.isprintable() for value in headers.values())


def exchange_for(plan: Plan, *, stream: bool = False) -> Exchange:
    async def everybody(targets: Any) -> tuple[Target, ...]:
        return tuple(targets)

    surface = surface_for("acompletion")
    assert surface is not None
    exchange = Exchange(plan, surface, PhraseDetector(), lambda _: None)
    exchange.rights, exchange.stream = everybody, stream
    return exchange


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}


async def test_exchange_follows_the_router() -> None:
    """Attempts that left no response are passed over; what is owed is the first refusal."""
    exchange = exchange_for(plan_of("second", "third", "fourth"))
    first = answer("I'm sorry, no.")
    assert not await exchange.bring(first, "primary")
    assert not await exchange.bring(answer("I cannot."), "third")
    kept = await exchange.give_up()
    assert kept is not None
    assert kept.native is first
    outcome = exchange.outcome
    assert outcome is not None
    assert outcome.ending == "exhausted"
    assert [a.outcome for a in outcome.attempts] == ["refused", "failed", "refused", "failed"]


async def test_nobody_is_called_again() -> None:
    """The Router may call whom the flow waits for, and those behind; by no retry one that is
    judged."""
    exchange = exchange_for(plan_of("second", "third"))
    await exchange.bring(answer("I can't."), "primary")
    assert [exchange.unwanted(group) for group in ("primary", "second", "third", "other")] == [
        "not called", None, None, "not called",
    ]  # fmt: skip
    assert exchange.unwanted("primary", mocked=True) is None
    await exchange.bring(answer("I can't."), "second")
    assert exchange.unwanted("second") == "not called"
    assert exchange.unwanted("third") is None


def test_who_stands_in() -> None:
    """A group of another name after a hop of the Router's; the name alone says nothing."""
    plan = plan_of("second")
    assert stand_in(plan, "other", 1) == Target("other", "other")
    assert stand_in(plan, "second", 2) is plan.chain[0]
    for group, hops in (("other", 0), ("other", None), ("primary", 1), (None, 1)):
        assert stand_in(plan, group, hops) is None


def test_which_setting_of_the_router_holds() -> None:
    """The request's own before its key's or team's, those before the Router's."""
    router = SimpleNamespace(fallbacks=["router's"])
    team = {"router_settings_override": {"fallbacks": ["team's"], "other": 1}}
    assert holding(router, {}, "fallbacks") == ["router's"]
    assert holding(router, team, "fallbacks") == ["team's"]
    assert holding(router, {**team, "fallbacks": None}, "fallbacks") is None
    assert holding(router, {"router_settings_override": {}}, "fallbacks") == ["router's"]


def test_retries_of_other_errors_stay() -> None:
    """Of a retry policy nothing changes but what repeats refusals, for the rule's models alone."""
    for_all = RetryPolicy(TimeoutErrorRetries=3, ContentPolicyViolationErrorRetries=4)
    by_group = {"second": {"RateLimitErrorRetries": 2}, "other": {"DefaultRetries": 1}}
    found = never_again(plan_of("second"), by_group, for_all)
    assert found["primary"] == RetryPolicy(
        TimeoutErrorRetries=3, ContentPolicyViolationErrorRetries=0
    )
    assert found["second"] == RetryPolicy(
        RateLimitErrorRetries=2, ContentPolicyViolationErrorRetries=0
    )
    assert found["other"] == {"DefaultRetries": 1}
    assert never_again(plan_of("second"), None, None) == {}


def test_every_group_is_spared_its_retries() -> None:
    """Whatever the order in which an SDK Router's groups are handed their chains."""
    retried = {"ContentPolicyViolationErrorRetries": 2}
    router = SimpleNamespace(
        get_model_names=lambda: ["primary", "other", "second"],
        model_group_retry_policy={"primary": retried, "other": retried},
    )
    chains = Chains(router)
    rule = {"name": "r", "actions": ["retry"], "retry": {"fallbacks": ["second"]}}
    chains.hand_over(SimpleNamespace(policy=load_policy({"version": 1, "rules": [rule]})))  # type: ignore[arg-type]
    found = router.model_group_retry_policy
    assert {
        group: policy.ContentPolicyViolationErrorRetries for group, policy in found.items()
    } == {
        "primary": 0,
        "other": 0,
    }
    shadowed = load_policy({"version": 1, "rules": [{**rule, "mode": "shadow"}]})
    chains.hand_over(SimpleNamespace(policy=shadowed))  # type: ignore[arg-type]
    assert router.model_group_retry_policy == {"primary": retried, "other": retried}


async def test_exchange_serves_the_fallback() -> None:
    """A fallback's normal answer is what to serve, and later calls change nothing."""
    exchange = exchange_for(plan_of("second"))
    assert not await exchange.bring(answer("I can't."), "primary")
    assert await exchange.bring(answer("Sure."), "second")
    assert await exchange.bring(answer("I can't."), "second")
    assert exchange.outcome is not None
    assert exchange.outcome.fell_back


async def test_nobody_falls_back_without_a_router() -> None:
    """A refusal of a call past the Router is served."""
    exchange = exchange_for(plan_of("second"))
    assert await exchange.bring(answer("I can't."), "primary", routed=False)


def test_exchange_is_found_for_its_own_call_only() -> None:
    """LiteLLM's own calls inside a request carry its metadata: they are nobody's answer."""
    exchange = exchange_for(plan_of("second"))
    exchange.call_id = "a"
    assert find({"metadata": {KEY: exchange}, "litellm_call_id": "a"}) is exchange
    assert find({"litellm_metadata": {KEY: exchange}, "litellm_call_id": "a"}) is exchange
    assert find({"metadata": {KEY: exchange}, "litellm_call_id": "b"}) is None
    marked = {KEY: exchange, "internal_call_origin": "router"}
    assert find({"metadata": marked, "litellm_call_id": "a"}) is None
    assert find({"metadata": {KEY: "from a client"}}) is None


async def test_kept_answer_is_never_shown() -> None:
    """The stand-in for the kept response is an error where nothing was kept."""
    guardrail = DemurGuardrail()
    hook = guardrail.async_post_call_success_deployment_hook
    for metadata in ({}, {KEY: exchange_for(plan_of("second"))}):
        data = {"mock_response": KEPT, "model": "m", "metadata": metadata}
        with pytest.raises(AttemptRefusedError):
            await hook(data, answer(KEPT), "acompletion")


class FirstStream:
    """What the proxy would have opened."""

    def __init__(self, *texts: str, error: Exception | None = None) -> None:
        self._texts = texts
        self._error = error

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for text in self._texts:
            yield {"choices": [{"index": 0, "delta": {"content": text}}]}
        if self._error is not None:
            raise self._error


async def relayed(stream: FirstStream, released: Any = lambda *_: None) -> list[str]:
    exchange = exchange_for(plan_of("second"), stream=True)
    port = StreamPort(exchange, stream, {"model": "primary"}, router=None)
    items = relay(exchange.plan, port, PhraseDetector(), released)
    return [item["choices"][0]["delta"]["content"] async for item in items]


async def test_stream_survives_a_failure_of_ours() -> None:
    """If demur fails, what was held and the rest of the stream are passed on, each item once."""

    def broken(*_: Any) -> None:
        raise RuntimeError("scripted")

    texts = ["I ", "think ", "that ", "Lisbon ", "it ", "is."]
    assert await relayed(FirstStream(*texts), broken) == texts


async def test_stream_keeps_its_own_error() -> None:
    """The upstream's error is raised in its place, after what came before it."""
    error = ConnectionError("scripted")
    with pytest.raises(ConnectionError) as caught:
        await relayed(FirstStream("Sure, ", "Lisb", error=error))
    assert caught.value is error


async def test_stream_whose_fallback_cannot_be_called() -> None:
    """Without a Router to call, a refused stream is served after all."""
    assert await relayed(FirstStream("I'm sorry", ", no.")) == ["I'm sorry", ", no."]


def template_of(shape: str) -> Any:
    """What stands for a kept response at the end of the Router's chain."""
    if shape == "chat":
        return ModelResponse(choices=[{"message": {"content": KEPT}}])
    if shape == "responses":
        return ResponsesAPIResponse(id="y", created_at=1, output=[], object="response")
    return {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}


@pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")
@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
@pytest.mark.parametrize("spoken", ["chat", "responses"])
def test_a_kept_response_in_another_shape(spoken: str, shape: str) -> None:
    """Text, model, usage and the end are what was kept, whichever shape is served; one that a
    filter has emptied still says that it is no answer."""
    refused: Any = answer("I can't.")
    if spoken == "responses":
        part = {"type": "output_text", "text": "I can't."}
        refused = {"object": "response", "output": [{"type": "message", "content": [part]}]}
    counts = {"input_tokens": 5, "output_tokens": 3}
    said = read_completion(CHAT, {**refused, "id": "x", "model": "m", "usage": counts})
    shown = read_completion(CHAT, in_shape_of(template_of(shape), said))
    assert shown.choices == said.choices
    assert (shown.model, shown.usage) == ("m", said.usage)
    end: Any = {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}
    if spoken == "responses":
        reason = {"reason": "content_filter"}
        end = {"output": [], "status": "incomplete", "incomplete_details": reason}
    filtered = read_completion(CHAT, {**refused, **end})
    again = read_completion(CHAT, in_shape_of(template_of(shape), filtered)).choices
    assert any(signal.refuses for signal in again[0].signals)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["candidates", "finishReason", "promptFeedback", "blockReason", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_any_original_response(original: Any, as_text: bool) -> None:
    """Whatever a provider has sent, and LiteLLM has kept of it, the response is read."""
    body = json.dumps(original) if as_text else original
    logging_obj = SimpleNamespace(model_call_details={"original_response": body})
    choice = {"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}
    payload = {"object": "chat.completion", "choices": [choice]}
    assert len(unfolded(payload, logging_obj)["choices"]) == 1
    assert len(read_completion(CHAT, payload, logging_obj).choices) == 1


def test_a_subclass_is_refused_where_it_is_written() -> None:
    """LiteLLM would call none of the hooks that it inherits."""
    with pytest.raises(TypeError, match="Mine: LiteLLM calls no hook"):
        type("Mine", (DemurGuardrail,), {})


def test_bytes_with_an_error_in_them() -> None:
    """What follows an error event in the same bytes is not read, as in a wrapped client."""
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}
    said = f"event: content_block_delta\ndata: {json.dumps(delta)}\n\n".encode()
    messages = surface_for("anthropic_messages")
    assert messages is not None
    chunk = ItemReader(messages).read(said + b"event: error\ndata: {}\n\n" + said)
    assert ([d.text for d in chunk.deltas], chunk.opaque) == (["Hi"], True)


async def test_a_stream_that_is_always_ready_lets_others_run() -> None:
    """Other tasks of the event loop get their turn between the chunks of a released stream."""
    turns: list[int] = []
    texts = ["Sure, ", "here ", "it ", "is. "] + ["More. "] * 20

    class Busy(FirstStream):
        async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
            async for item in super().__aiter__():
                sleep(TURN_SECONDS)  # noqa: ASYNC251 - it is to keep the loop to itself
                turns.append(ticks)
                yield item

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await relayed(Busy(*texts)) == texts
    ticking.cancel()
    assert len(set(turns)) == len(texts)

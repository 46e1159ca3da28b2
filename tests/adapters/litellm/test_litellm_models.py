"""``Models``: the SDK with a policy, blocking or not, whole or streamed, with or without Router."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL, SCRIPT, SECOND
from test_litellm_sdk import ASK, policy, router_of

from demur.attachment import outcome_of
from demur.errors import RefusedError
from demur.testing import CapturedRecords, RaisingDetector, Upstream

litellm = pytest.importorskip("litellm")

from logged import Records  # noqa: E402

from demur.adapters.litellm import Models  # noqa: E402

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")

WAYS = [(a, s) for a in (False, True) for s in (False, True)]


async def asked(models: Models, model: str, *, waits: bool, stream: bool, **more: Any) -> Any:
    """Text and outcome, the one way or the other."""
    if waits:
        answer = await models.acompletion(model, ASK, stream=stream, **more)
        items = [item async for item in answer] if stream else []
    else:
        answer = models.completion(model, ASK, stream=stream, **more)
        items = list(answer) if stream else []
    texts = [i.choices[0].delta.content or "" for i in items if i.choices]
    text = "".join(texts) if stream else answer.choices[0].message.content
    return text, outcome_of(answer)


def direct(upstream: Upstream) -> dict[str, Any]:
    return {"api_base": upstream.base_url, "api_key": "k"}


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_refusal_is_replaced(upstream: Upstream, waits: bool, stream: bool) -> None:
    """A refusal is replaced by the fallback's answer, each model called once."""
    models = Models(policy("openai/m-refusing", "openai/m-second"))
    before = len(upstream.calls("m-refusing"))
    text, outcome = await asked(
        models, "openai/m-refusing", waits=waits, stream=stream, **direct(upstream)
    )
    assert text == SECOND
    assert (outcome.ending, outcome.finished) == ("fell_back", True)
    assert outcome.served_attempt.model == "openai/m-second"
    assert len(upstream.calls("m-refusing")) == before + 1


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_sinks_of_the_callers_own(upstream: Upstream, waits: bool, stream: bool) -> None:
    """They are given the outcome once, when all is over."""
    captured = CapturedRecords()
    models = Models(policy("openai/m-refusing", "openai/m-second"), sinks=[captured])
    ask: Any = {"waits": waits, "stream": stream, **direct(upstream)}
    _, outcome = await asked(models, "openai/m-refusing", **ask)
    assert captured.records == [outcome]


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_with_a_router(upstream: Upstream, waits: bool, stream: bool) -> None:
    """The fallback is a model group of the Router."""
    router = router_of(upstream, primary="m-refusing", second="m-second")
    models = Models(policy("primary", "second"), router=router)
    text, outcome = await asked(models, "primary", waits=waits, stream=stream)
    assert text == SECOND
    assert [a.model for a in outcome.attempts] == ["primary", "second"]


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_refusal_is_kept(upstream: Upstream, waits: bool, stream: bool) -> None:
    """If all refuse or fail, the caller gets the original refusal; if asked for, an error."""
    ask: Any = {"waits": waits, "stream": stream, **direct(upstream)}
    models = Models(policy("*", "openai/m-also-refusing", "openai/m-broken"))
    assert (await asked(models, "openai/m-refusing", **ask))[0] == REFUSAL
    models = Models(policy("*", "openai/m-second"), detector=RaisingDetector())
    assert (await asked(models, "openai/m-refusing", **ask))[0] == REFUSAL
    models = Models(policy("*", "openai/m-also-refusing", retry={"exhausted": "error"}))
    with pytest.raises(RefusedError):
        await asked(models, "openai/m-refusing", **ask)


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_normal_answer(upstream: Upstream, waits: bool, stream: bool) -> None:
    """A normal answer is passed on as it is; so is any where the request opts out."""
    models = Models(policy("*", "openai/m-second"))
    ask: Any = {"waits": waits, "stream": stream, **direct(upstream)}
    text, outcome = await asked(models, "openai/m-helpful", **ask)
    assert (text, outcome.verdict.label) == (ANSWER, "normal")
    text, outcome = await asked(models, "openai/m-refusing", metadata={"demur": "off"}, **ask)
    assert (text, outcome) == (REFUSAL, None)


async def test_errors_are_the_callers(upstream: Upstream) -> None:
    """A call that fails raises what it raises without demur."""
    models = Models(policy("*", "openai/m-second"))
    with pytest.raises(litellm.BadRequestError, match="scripted failure"):
        models.completion("openai/m-broken", ASK, **direct(upstream))
    with pytest.raises(litellm.BadRequestError, match="scripted failure"):
        await models.acompletion("openai/m-broken", ASK, **direct(upstream))


def test_a_setting_without_effect(caplog: pytest.LogCaptureFixture) -> None:
    """It is told of: errors for a provider's policy are the caller's, whatever a rule says."""
    Models(policy("openai/m-forbidding", "openai/m-second", retry={"provider_errors": True}))
    assert [record.getMessage() for record in caplog.records] == [
        "demur: rule 'r': provider_errors has no effect on Models"
    ]


@pytest.mark.parametrize("waits", [False, True])
async def test_errors_are_raised_by_the_call(upstream: Upstream, waits: bool) -> None:
    """Also where it asks for a stream: by the call, as LiteLLM's own, and not by reading it."""
    models = Models(policy("*", "openai/m-also-refusing", retry={"exhausted": "error"}))
    for model, error in (("m-broken", litellm.BadRequestError), ("m-refusing", RefusedError)):
        ask: Any = {"model": f"openai/{model}", "messages": ASK, **direct(upstream)}
        with pytest.raises(error):
            await models.acompletion(**ask, stream=True) if waits else models.completion(
                **ask, stream=True
            )


@pytest.mark.parametrize("api", ["", "responses/"])
@pytest.mark.parametrize("waits", [False, True])
async def test_refused_stream_is_cut(waits: bool, api: str) -> None:
    """The refused upstream's connection is closed while it still has much to say; also where
    LiteLLM asks the Responses API for a chat completion, of a model it knows to stream there."""
    models = Models(policy("*", "openai/m-second"))
    with Upstream({**SCRIPT, "gpt-4.1": SCRIPT["m-refusing-slowly"]}) as own:
        ask: Any = {"model": f"openai/{api}gpt-4.1", "messages": ASK, **direct(own)}
        # Kept: to drop it would cut all the same.
        stream = (
            await models.acompletion(**ask, stream=True)
            if waits
            else models.completion(**ask, stream=True)
        )
        (call,) = own.calls("gpt-4.1")
        assert await asyncio.to_thread(call.finished.wait, 10)
        assert call.cut
        await stream.aclose() if waits else stream.close()


@pytest.mark.filterwarnings("ignore:Accessing the 'model_.* attribute:DeprecationWarning")
@pytest.mark.parametrize("waits", [False, True])
async def test_refused_stream_is_logged(
    upstream: Upstream, callbacks: list[Any], records: Records, waits: bool
) -> None:
    """A stream that was cut as refused has its row in LiteLLM's log, as the one served has."""
    models = Models(policy("*", "openai/m-second"))
    ask: Any = {"waits": waits, "stream": True, **direct(upstream)}
    ask["stream_options"] = {"include_usage": True}
    await asked(models, "openai/m-refusing-slowly", **ask)
    await records.wait_for(2)
    await asyncio.sleep(0.1)  # one too many would come now
    assert sorted(records.rows) == [
        ("success", "m-refusing-slowly", ["demur:refusal"]),
        ("success", "m-second", []),
    ]
    assert min(records.tokens) > 5


async def test_leaving_early(upstream: Upstream) -> None:
    """Closing a stream cuts its upstream, blocking or not."""
    models = Models(policy("*", "openai/m-second"))
    with models.completion("openai/m-talkative", ASK, stream=True, **direct(upstream)) as items:
        next(items)
    assert upstream.wait_for_cut("m-talkative")
    stream = await models.acompletion("openai/m-talkative", ASK, stream=True, **direct(upstream))
    async with stream:
        await stream.__anext__()
    assert upstream.wait_for_cut("m-talkative")


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_dropped_stream(upstream: Upstream, waits: bool, read: int) -> None:
    """It is cut and leaves its record, as if it had been closed."""
    captured = CapturedRecords()
    models = Models(policy("*", "openai/m-second"), sinks=[captured])
    before = len(upstream.calls("m-talkative"))
    ask: Any = {"stream": True, **direct(upstream)}
    if waits:
        items = await models.acompletion("openai/m-talkative", ASK, **ask)
        for _ in range(read):
            await items.__anext__()
    else:
        items = models.completion("openai/m-talkative", ASK, **ask)
        for _ in range(read):
            next(items)
    del items
    gc.collect()
    for _ in range(100):
        if captured.records:
            break
        await asyncio.sleep(0.02)
    assert [record.finished for record in captured.records] == [True]
    (call,) = upstream.calls("m-talkative")[before:]
    assert await asyncio.to_thread(call.finished.wait, 5)
    assert call.cut


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_a_breaker_and_a_conversation(upstream: Upstream, waits: bool, stream: bool) -> None:
    """Requests start at the fallback while the model refuses too often, and conversations stay."""
    for retry, more in (
        ({"breaker": {"least": 1}}, {}),
        ({"sticky": {}}, {"extra_headers": {"x-demur-conversation": "7"}}),
    ):
        rule = policy("openai/m-refusing", "openai/m-second")["rules"][0]
        rule = {**rule, "retry": {**rule["retry"], **retry}}
        models = Models({"version": 1, "rules": [rule]})
        before = len(upstream.calls("m-refusing"))
        for _ in range(2):
            text, outcome = await asked(
                models, "openai/m-refusing", waits=waits, stream=stream, **direct(upstream), **more
            )
            assert text == SECOND
        assert outcome.started == ("sticky" if more else "breaker")
        assert len(upstream.calls("m-refusing")) == before + 1


@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_a_budget_of_cost_has_prices(upstream: Upstream, waits: bool, stream: bool) -> None:
    """At LiteLLM's own prices, the policy's for models it does not know, if usage is told."""
    more = {"stream_options": {"include_usage": True}} if stream else {}
    rule = policy("openai/m-refusing", "openai/m-second")["rules"][0]
    budget = {"rules": [rule], "budgets": [{"cost": 0.000001, "per": 3600.0}]}
    prices = {"prices": {"openai/m-second": {"input": 10.0, "output": 10.0}}}
    for known in ({}, prices):
        models = Models({"version": 1, **budget, **known})
        told = [
            await asked(
                models, "openai/m-refusing", waits=waits, stream=stream, **direct(upstream), **more
            )
            for _ in range(2)
        ]
        assert told[1][1].limited == ("budget" if known else None)

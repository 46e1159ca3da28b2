"""The guardrail in LiteLLM's SDK: ``acompletion`` with and without a Router."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL, SECOND

from demur.attachment import outcome_of
from demur.testing import CapturedRecords, HangingDetector, RaisingDetector, Upstream

litellm = pytest.importorskip("litellm")

from logged import Records  # noqa: E402

from demur.adapters.litellm import DemurGuardrail  # noqa: E402

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")

ASK: Any = [{"role": "user", "content": "What is the capital of Portugal?"}]


def policy(model: str, *fallbacks: Any, **more: Any) -> dict[str, Any]:
    retry = {"fallbacks": list(fallbacks), **more.pop("retry", {})}
    rule = {"name": "r", "match": {"model": model}, "actions": ["tag", "log", "retry"], **more}
    return {"version": 1, "rules": [{**rule, "retry": retry}]}


async def ask(upstream: Upstream, model: str, **more: Any) -> Any:
    return await litellm.acompletion(
        model=model, messages=ASK, api_base=upstream.base_url, api_key="k", **more
    )


def router_of(upstream: Upstream, groups: Any = (), /, **named: str) -> Any:
    return litellm.Router(model_list=models_of(upstream, {**dict(groups), **named}))


def models_of(upstream: Upstream, groups: dict[str, str]) -> list[Any]:
    direct = {"api_base": upstream.base_url, "api_key": "k"}
    return [
        {"model_name": group, "litellm_params": {"model": f"openai/{model}", **direct}}
        for group, model in groups.items()
    ]


async def test_acompletion_falls_back(
    upstream: Upstream, callbacks: list[Any], records: Records
) -> None:
    """A refusal is replaced, the outcome rides on the response, each attempt is logged once."""
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "openai/m-second")))
    response = await ask(upstream, "openai/m-refusing")
    assert response.choices[0].message.content == SECOND
    outcome = outcome_of(response)
    assert outcome is not None
    assert (outcome.ending, outcome.served_attempt.model) == ("fell_back", "openai/m-second")
    assert "demur" not in response.model_dump_json()
    assert sorted(await records.wait_for(2)) == [
        ("success", "m-refusing", ["demur:refusal"]),
        ("success", "m-second", ["demur:refusal", "demur:served:openai/m-second"]),
    ]


async def test_sinks_of_the_callers_own(
    upstream: Upstream, callbacks: list[Any], tmp_path: Path
) -> None:
    """They are given each outcome, and stay when the policy's file has changed."""
    file, captured = tmp_path / "policy.yaml", CapturedRecords()
    file.write_text(json.dumps(policy("openai/m-refusing", "openai/m-second")))
    guardrail = DemurGuardrail(file, sinks=[captured])
    callbacks.append(guardrail)
    response = await ask(upstream, "openai/m-refusing")
    assert captured.records == [outcome_of(response)]
    changed = {
        **policy("openai/m-refusin*", "openai/m-second"),
        "audit": {"path": str(tmp_path / "a")},
    }
    file.write_text(json.dumps(changed))
    for _ in range(2):
        guardrail._setups.look()  # type: ignore[union-attr]
    response = await ask(upstream, "openai/m-refusing")
    assert captured.records[1:] == [outcome_of(response)]
    assert captured.records[0].policy != captured.records[1].policy


async def test_acompletion_logs_every_attempt(
    upstream: Upstream, callbacks: list[Any], records: Records
) -> None:
    """A row an attempt: refused ones are tagged, errors are LiteLLM's, and so is what is kept."""
    fallbacks = ("openai/m-also-refusing", "openai/m-broken", "openai/m-second")
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", *fallbacks)))
    await ask(upstream, "openai/m-refusing")
    served = ["demur:refusal", "demur:served:openai/m-second"]
    assert sorted(await records.wait_for(4)) == [
        ("failure", "m-broken", []),
        ("success", "m-also-refusing", ["demur:refusal"]),
        ("success", "m-refusing", ["demur:refusal"]),
        ("success", "m-second", served),
    ]
    callbacks[-1] = DemurGuardrail(policy("openai/m-refusing", *fallbacks[:1]))
    await ask(upstream, "openai/m-refusing")
    assert sorted((await records.wait_for(6))[4:]) == [
        ("success", "m-also-refusing", ["demur:refusal"]),
        ("success", "m-refusing", ["demur:refusal"]),
    ]
    assert min(records.tokens[4:]) > 5


async def test_acompletion_that_is_cancelled(
    upstream: Upstream, callbacks: list[Any], records: Records
) -> None:
    """The refusal is paid for, and logged, though nobody waits for the fallback."""
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "openai/m-dawdling")))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(upstream, "openai/m-refusing"), 1.0)
    assert [row[:2] for row in await records.wait_for(1)] == [("success", "m-refusing")]


async def test_arguments_by_position(upstream: Upstream, callbacks: list[Any]) -> None:
    """Model and messages may be given by position, where no hook is told of them."""
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "openai/m-second")))
    direct = {"api_base": upstream.base_url, "api_key": "k"}
    response = await litellm.acompletion("openai/m-refusing", ASK, **direct)
    assert response.choices[0].message.content == SECOND
    assert upstream.calls("m-second")[-1].body["messages"] == ASK


async def test_acompletion_keeps_the_refusal(upstream: Upstream, callbacks: list[Any]) -> None:
    """If the fallbacks refuse or fail, the original refusal is returned."""
    callbacks.append(DemurGuardrail(policy("*", "openai/m-also-refusing", "openai/m-broken")))
    response = await ask(upstream, "openai/m-refusing")
    assert response.choices[0].message.content == REFUSAL
    outcome = outcome_of(response)
    assert outcome is not None
    assert [a.outcome for a in outcome.attempts] == ["refused", "refused", "failed"]


async def test_acompletion_passes_errors_on(upstream: Upstream, callbacks: list[Any]) -> None:
    """A call that fails raises what it raises without demur."""
    callbacks.append(DemurGuardrail(policy("*", "openai/m-second")))
    with pytest.raises(litellm.BadRequestError, match="scripted failure"):
        await ask(upstream, "openai/m-broken")


async def test_exhausted_error(upstream: Upstream, callbacks: list[Any]) -> None:
    """``exhausted: error`` raises LiteLLM's own policy error, without text."""
    callbacks.append(
        DemurGuardrail(policy("*", "openai/m-also-refusing", retry={"exhausted": "error"}))
    )
    with pytest.raises(litellm.ContentPolicyViolationError) as caught:
        await ask(upstream, "openai/m-refusing")
    assert "help with that" not in str(caught.value)


@pytest.mark.parametrize("detector", [RaisingDetector(), HangingDetector()])
async def test_failing_detector(upstream: Upstream, callbacks: list[Any], detector: Any) -> None:
    """A detector that raises or hangs leaves the response as it is."""
    settings = {**policy("*", "openai/m-second"), "detector": {"seconds": 0.2}}
    callbacks.append(DemurGuardrail(settings, detector=detector))
    response = await asyncio.wait_for(ask(upstream, "openai/m-refusing"), 5.0)
    assert response.choices[0].message.content == REFUSAL
    if isinstance(detector, HangingDetector):
        detector.release()


async def test_normal_and_streamed_answers(upstream: Upstream, callbacks: list[Any]) -> None:
    """What is not refused is untouched; SDK streams are passed on as they are."""
    callbacks.append(DemurGuardrail(policy("*", "openai/m-second")))
    response = await ask(upstream, "openai/m-helpful")
    assert response.choices[0].message.content == ANSWER
    outcome = outcome_of(response)
    assert outcome is not None
    assert outcome.verdict is not None
    assert outcome.verdict.label == "normal"
    chunks = await ask(upstream, "openai/m-helpful", stream=True)
    texts = [c.choices[0].delta.content or "" async for c in chunks]
    assert "".join(texts) == ANSWER


async def test_router_falls_back(
    upstream: Upstream, callbacks: list[Any], records: Records
) -> None:
    """A Router given to the guardrail falls back by itself: one call a model, no cool-down."""
    router = router_of(upstream, primary="m-refusing", second="m-second")
    callbacks.append(DemurGuardrail(policy("primary", "second"), router=router))
    before = len(upstream.calls("m-refusing"))
    for _ in range(4):
        response = await router.acompletion(model="primary", messages=ASK)
        assert response.choices[0].message.content == SECOND
    assert len(upstream.calls("m-refusing")) == before + 4
    outcome = outcome_of(response)
    assert outcome is not None
    assert [a.model for a in outcome.attempts] == ["primary", "second"]
    headers = response._hidden_params["additional_headers"]
    assert headers["x-litellm-attempted-fallbacks"] == 1
    rows = await records.wait_for(8)
    assert (
        sorted(rows)
        == [("success", "m-refusing", ["demur:refusal"])] * 4
        + [("success", "m-second", ["demur:refusal", "demur:served:second"])] * 4
    )


@pytest.mark.parametrize("fallback", ["m-also-refusing", "m-broken"])
async def test_router_keeps_the_refusal(
    upstream: Upstream, callbacks: list[Any], records: Records, fallback: str
) -> None:
    """If the Router's fallbacks refuse or fail, the original refusal is returned."""
    router = router_of(upstream, primary="m-refusing", other=fallback)
    callbacks.append(DemurGuardrail(policy("primary", "other"), router=router))
    response = await router.acompletion(model="primary", messages=ASK)
    assert response.choices[0].message.content == REFUSAL
    status = "failure" if fallback == "m-broken" else "success"
    assert sorted((row[0], row[1]) for row in await records.wait_for(2)) == sorted(
        [("success", "m-refusing"), (status, fallback)]
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"disable_fallbacks": True},
        {"max_fallbacks": 0},
        {"fallbacks": ["other"]},
        {"fallbacks": [{"model": "other"}]},
        {"content_policy_fallbacks": [{"primary": ["other"]}]},
    ],
    ids=lambda asked: ",".join(f"{name}={value}" for name, value in asked.items()),
)
async def test_a_request_with_fallbacks_of_its_own(
    upstream: Upstream, callbacks: list[Any], asked: dict[str, Any]
) -> None:
    """It is not retried along the policy's chain, and its refusal is not lost."""
    router = router_of(upstream, primary="m-refusing", second="m-second", other="m-helpful")
    if "disable_fallbacks" in asked and hasattr(router, "registry"):
        pytest.skip("from LiteLLM 1.110 on no hook sees it")
    callbacks.append(DemurGuardrail(policy("primary", "second"), router=router))
    response = await router.acompletion(model="primary", messages=ASK, **asked)
    assert response.choices[0].message.content == REFUSAL


async def test_a_models_name_under_a_wildcard_group(
    upstream: Upstream, callbacks: list[Any]
) -> None:
    """A rule may name a model that the Router serves by a wildcard."""
    router = router_of(upstream, {"openai/*": "*"}, second="m-second")
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "second"), router=router))
    response = await router.acompletion(model="openai/m-refusing", messages=ASK)
    assert response.choices[0].message.content == SECOND


@pytest.mark.parametrize("setting", ["retry_policy", "model_group_retry_policy"])
async def test_a_retry_policy_repeats_no_refusal(
    upstream: Upstream, callbacks: list[Any], setting: str
) -> None:
    """A refused attempt looks like a policy error to the Router; it is not made again for that."""
    retried = {"ContentPolicyViolationErrorRetries": 2}
    given = {"primary": retried} if setting == "model_group_retry_policy" else retried
    models = models_of(upstream, {"primary": "m-refusing", "second": "m-second"})
    router = litellm.Router(model_list=models, **{setting: given})
    callbacks.append(DemurGuardrail(policy("primary", "second"), router=router))
    before = len(upstream.calls("m-refusing"))
    response = await router.acompletion(model="primary", messages=ASK)
    assert response.choices[0].message.content == SECOND
    assert len(upstream.calls("m-refusing")) == before + 1


async def test_the_cache_takes_no_other_models_answer(
    upstream: Upstream, callbacks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opts out of demur gets what the model itself says."""
    monkeypatch.setattr(litellm, "cache", litellm.Cache())
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "openai/m-second")))
    response = await ask(upstream, "openai/m-refusing", caching=True)
    assert response.choices[0].message.content == SECOND
    await asyncio.sleep(0.3)
    off = {"metadata": {"demur": "off"}}
    response = await ask(upstream, "openai/m-refusing", caching=True, **off)
    assert response.choices[0].message.content == REFUSAL


async def test_the_cache_takes_no_refusal_that_is_kept(
    upstream: Upstream, callbacks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a fallback answers again, it is asked."""
    monkeypatch.setattr(litellm, "cache", litellm.Cache())
    callbacks.append(DemurGuardrail(policy("openai/m-refusing", "openai/m-broken")))
    asked = {"model": "openai/m-refusing", "caching": True, "temperature": 0.3}
    assert (await ask(upstream, **asked)).choices[0].message.content == REFUSAL
    await asyncio.sleep(0.3)
    callbacks[-1] = DemurGuardrail(policy("openai/m-refusing", "openai/m-second"))
    before = len(upstream.calls("m-refusing"))
    assert (await ask(upstream, **asked)).choices[0].message.content == SECOND
    assert len(upstream.calls("m-refusing")) == before + 1


async def test_router_of_its_own(upstream: Upstream, callbacks: list[Any]) -> None:
    """Requests of a Router the guardrail was not given are judged, and never lost."""
    router = router_of(upstream, primary="m-refusing", second="m-second")
    callbacks.append(DemurGuardrail(policy("primary", "second")))
    response = await router.acompletion(model="primary", messages=ASK)
    assert response.choices[0].message.content == REFUSAL
    outcome = outcome_of(response)
    assert outcome is not None
    assert outcome.verdict is not None
    assert outcome.verdict.label == "refusal"

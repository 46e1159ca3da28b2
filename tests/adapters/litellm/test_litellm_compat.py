"""What demur relies on in LiteLLM, tried on whichever version is installed: hooks that really act.

The hooks of the proxy alone (before the call, headers, streams) are tried by every test of a proxy.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from typing import Any

import pytest
from proxy_scene import REFUSAL, SECOND
from test_litellm_sdk import ASK, policy, router_of

from demur.testing import Upstream

litellm = pytest.importorskip("litellm")

from litellm.integrations.custom_guardrail import CustomGuardrail  # noqa: E402
from litellm.integrations.custom_logger import CustomLogger  # noqa: E402

from demur.adapters.litellm import DemurGuardrail  # noqa: E402
from demur.adapters.litellm.chain import AttemptRefusedError  # noqa: E402
from demur.adapters.litellm.once import stands_aside  # noqa: E402

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")

REFUSED = AttemptRefusedError("m")


class Guard(CustomGuardrail):  # type: ignore[misc, unused-ignore]
    """Notes which hooks are called, and with what; raises what it is told to."""

    def __init__(self, *, raises: Exception | None = None, mocks: str | None = None) -> None:
        super().__init__(guardrail_name="g", default_on=True)
        self._raises = raises
        self._mocks = mocks
        self.seen: list[tuple[str, Any]] = []

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
        self.seen.append(("before", kwargs))
        if self._mocks is not None and kwargs.get("model") != "openai/m-refusing":
            kwargs["mock_response"] = self._mocks
        return kwargs

    async def async_post_call_success_deployment_hook(
        self, request_data: Any, response: Any, call_type: Any
    ) -> Any:
        self.seen.append(("after", request_data))
        if self._raises is not None and "m-refusing" in str(request_data.get("model")):
            raise self._raises

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Any, call_type: Any, fallback_depth: Any = None
    ) -> None:
        self.seen.append(("failed", exception))


class Logger(CustomLogger):  # type: ignore[misc, unused-ignore]
    """The same error from what is no guardrail."""

    async def async_post_call_success_deployment_hook(self, *_: Any, **__: Any) -> Any:
        raise REFUSED


async def ask(upstream: Upstream, **more: Any) -> Any:
    fallbacks = [{"primary": ["second"]}]
    router = router_of(upstream, primary="m-refusing", second="m-second", broken="m-broken")
    return await router.acompletion(
        **{"model": "primary", "messages": ASK, "content_policy_fallbacks": fallbacks, **more}
    )


async def test_a_guardrail_that_raises_makes_the_router_fall_back(
    upstream: Upstream, callbacks: list[Any]
) -> None:
    """The hook after each attempt: its policy error is taken for a provider's, without retries."""
    callbacks.append(Guard(raises=REFUSED))
    before = len(upstream.calls("m-refusing"))
    response = await ask(upstream, num_retries=2)
    assert response.choices[0].message.content == SECOND
    assert len(upstream.calls("m-refusing")) == before + 1


async def test_a_logger_that_raises_does_not(upstream: Upstream, callbacks: list[Any]) -> None:
    """The same error from a plain logger is swallowed: demur must be a guardrail."""
    callbacks.append(Logger())
    response = await ask(upstream)
    assert response.choices[0].message.content == REFUSAL


async def test_the_hook_before_each_attempt(upstream: Upstream, callbacks: list[Any]) -> None:
    """It sees the attempt's logging object and group, and can have it answered by nobody."""
    guard = Guard(raises=REFUSED, mocks="mocked")
    callbacks.append(guard)
    response = await ask(upstream)
    assert response.choices[0].message.content == "mocked"
    attempts = [kwargs for hook, kwargs in guard.seen if hook == "before"]
    assert [kwargs["metadata"]["model_group"] for kwargs in attempts] == ["primary", "second"]
    assert all(kwargs["litellm_logging_obj"] is not None for kwargs in attempts)
    assert [kwargs.get("mock_response") for hook, kwargs in guard.seen if hook == "after"] == [
        None,
        "mocked",
    ]


async def test_the_hook_after_a_failure(upstream: Upstream, callbacks: list[Any]) -> None:
    """It is told of a provider's error, and of a guardrail's as little as of a success."""
    guard = Guard()
    callbacks.append(guard)
    with pytest.raises(litellm.BadRequestError):
        await ask(upstream, model="broken")
    errors = [error for hook, error in guard.seen if hook == "failed"]
    assert errors
    assert all(isinstance(error, litellm.BadRequestError) for error in errors)


async def test_the_original_response(upstream: Upstream, callbacks: list[Any]) -> None:
    """What the provider sent is kept on the logging object until after the hook."""
    guard = Guard()
    callbacks.append(guard)
    await ask(upstream)
    (data,) = [data for hook, data in guard.seen if hook == "after"]
    original = data["litellm_logging_obj"].model_call_details["original_response"]
    assert REFUSAL in str(original)


NAMES = {
    "litellm.litellm_core_utils.internal_call_metadata": ["without_budget_reservation"],
    "litellm.litellm_core_utils.thread_pool_executor": ["executor"],
    "litellm.router_utils.fallback_event_handlers": ["get_fallback_model_group"],
}
PROXY_NAMES = {
    "litellm.proxy.auth.fallback_budget": ["is_token_within_budget_for_model"],
    "litellm.proxy.auth.fallback_model_access": ["is_model_authorized_for_token"],
    "litellm.proxy.common_request_processing": [
        "model_deployments_support_stream_options",
        "stream_usage_tracking_updates",
    ],
    "litellm.proxy.proxy_server": ["general_settings", "llm_router"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", [*NAMES, *PROXY_NAMES])
def test_names(module: str) -> None:
    """The functions of LiteLLM's that demur asks are where it looks for them."""
    if module in PROXY_NAMES:
        pytest.importorskip("fastapi")
        pytest.importorskip("apscheduler")
    found = importlib.import_module(module)
    missing = [n for n in (NAMES | PROXY_NAMES)[module] if not hasattr(found, n)]
    assert not missing


def test_places_on_the_logging_object() -> None:
    """Where demur says what is not to be logged, and finds what waits to be."""
    from litellm.litellm_core_utils import litellm_logging, streaming_handler

    logging_obj = litellm_logging.Logging
    assert callable(logging_obj.claim_async_success_log)
    assert "prefer_async_handlers" in inspect.signature(
        logging_obj.dispatch_success_handlers
    ).parameters  # fmt: skip
    source = inspect.getsource(litellm_logging)
    assert "has_dispatched_final_stream_success" in source
    assert 'f"has_logged_{event_type}"' in source
    assert "_on_deferred_stream_complete" in inspect.getsource(streaming_handler)


async def test_two_at_run_time(
    upstream: Upstream, callbacks: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A second guardrail put among the callbacks by hand does nothing, and the log says so once."""
    first, second = (DemurGuardrail(policy("*", "openai/m-second")) for _ in range(2))
    callbacks.extend([first, second])
    before = len(upstream.calls("m-second"))
    with caplog.at_level(logging.ERROR, "demur"):
        for _ in range(2):
            response = await litellm.acompletion(
                "openai/m-refusing", ASK, api_base=upstream.base_url, api_key="k"
            )
            assert response.choices[0].message.content == SECOND
    assert len(upstream.calls("m-second")) == before + 2
    assert (stands_aside(first), stands_aside(second)) == (False, True)
    told = [r.getMessage() for r in caplog.records if "twice" in r.getMessage()]
    assert len(told) == 1
    await asyncio.sleep(0)

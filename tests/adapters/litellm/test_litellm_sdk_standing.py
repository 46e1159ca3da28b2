"""With the callback of LiteLLM's SDK budgets hold; where a request starts it cannot say."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_scene import REFUSAL, SECOND

from demur.testing import Upstream

litellm = pytest.importorskip("litellm")

from test_litellm_sdk import ASK, ask, policy, router_of  # noqa: E402

from demur.adapters.litellm import DemurGuardrail  # noqa: E402
from demur.attachment import outcome_of  # noqa: E402

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")


def remembering(model: str, fallback: str) -> dict[str, Any]:
    retry = {"breaker": {"least": 1}, "sticky": {}}
    return {**policy(model, fallback, retry=retry), "budgets": [{"calls": 2, "per": 3600.0}]}


def check(responses: list[Any]) -> None:
    assert [r.choices[0].message.content for r in responses] == [SECOND, SECOND, REFUSAL]
    outcomes = [outcome_of(response) for response in responses]
    assert [outcome and outcome.limited for outcome in outcomes] == [None, None, "budget"]
    assert [outcome and outcome.started for outcome in outcomes] == [None, None, None]


async def test_acompletion(upstream: Upstream, callbacks: list[Any]) -> None:
    """Two refusals are retried, the third is over the budget; the model is called each time."""
    callbacks.append(DemurGuardrail(remembering("openai/m-refusing", "openai/m-second")))
    check([await ask(upstream, "openai/m-refusing") for _ in range(3)])


async def test_a_router(upstream: Upstream, callbacks: list[Any]) -> None:
    """The same where a Router makes the calls."""
    router = router_of(upstream, primary="m-refusing", second="m-second")
    callbacks.append(DemurGuardrail(remembering("primary", "second"), router=router))
    check([await router.acompletion("primary", ASK) for _ in range(3)])

"""What bounds a fallback that demur calls through LiteLLM: one call, and the rule's seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from proxy_scene import ANSWER, REFUSAL, SECOND
from test_litellm_models import WAYS, asked, direct
from test_litellm_sdk import ask, policy, router_of

from demur.attachment import outcome_of
from demur.testing import Reply, Upstream

litellm = pytest.importorskip("litellm")

from demur.adapters.litellm import DemurGuardrail, Models  # noqa: E402

# LiteLLM's own models, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


SCRIPT = {
    "m-refusing": Reply(REFUSAL),
    "m-second": Reply(SECOND),
    "m-erring": Reply("scripted failure", status=500),
    "m-late": Reply(" ".join([ANSWER] * 20), first_delay=4.0, delay=0.05),
    "m-pausing": Reply(body=(event(ANSWER * 3), event(" Bye.", "stop")), delay=3.0),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with Upstream(SCRIPT) as running:
        yield running


@pytest.fixture
async def own(server: Upstream) -> Upstream:
    """Asked once before: the first call of a process takes LiteLLM its time."""
    await ask(server, "openai/m-second")
    return server


@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_a_fallback_that_errs_is_called_once(
    own: Upstream, waits: bool, stream: bool
) -> None:
    """Whatever retries the caller wants for the model it asks for."""
    models = Models(policy("*", "openai/m-erring"))
    before = len(own.calls("m-erring"))
    for more in ({}, {"num_retries": 2}, {"max_retries": 2}):
        text, outcome = await asked(
            models, "openai/m-refusing", waits=waits, stream=stream, **direct(own), **more
        )
        assert text == REFUSAL
        assert [a.outcome for a in outcome.attempts] == ["refused", "failed"]
    assert len(own.calls("m-erring")) == before + 3


async def test_the_guardrail_calls_it_once(own: Upstream, callbacks: list[Any]) -> None:
    """So does ``acompletion`` with the guardrail."""
    callbacks.append(DemurGuardrail(policy("*", "openai/m-erring")))
    before = len(own.calls("m-erring"))
    response = await ask(own, "openai/m-refusing")
    assert [a.outcome for a in outcome_of(response).attempts] == ["refused", "failed"]
    assert len(own.calls("m-erring")) == before + 1


@pytest.mark.parametrize(("routed", "timeout"), [(False, None), (False, 60), (True, None)])
@pytest.mark.parametrize(("waits", "stream"), WAYS)
async def test_seconds_hold(
    own: Upstream, waits: bool, stream: bool, timeout: float | None, routed: bool
) -> None:
    """A fallback that takes longer is not waited for, however long the caller would."""
    retry = {"seconds": 1.5}
    more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    if routed:
        router = router_of(own, primary="m-refusing", late="m-late")
        models = Models(policy("primary", "late", retry=retry), router=router)
        text, outcome = await asked(models, "primary", waits=waits, stream=stream, **more)
    else:
        models = Models(policy("*", "openai/m-late", retry=retry))
        more |= direct(own)
        text, outcome = await asked(models, "openai/m-refusing", waits=waits, stream=stream, **more)
    assert text == REFUSAL
    assert [a.outcome for a in outcome.attempts] == ["refused", "failed"]
    assert outcome.attempts[1].seconds < 3.5


async def test_a_stream_that_opens_too_late_is_cut(own: Upstream) -> None:
    """Nobody reads it."""
    models = Models(policy("*", "openai/m-late", retry={"seconds": 1.5}))
    text, _ = await asked(models, "openai/m-refusing", waits=False, stream=True, **direct(own))
    assert text == REFUSAL
    assert own.wait_for_cut("m-late")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_released_stream_may_pause(own: Upstream, waits: bool) -> None:
    """The rule's seconds are for what is held: the rest comes whenever it comes."""
    models = Models(policy("*", "openai/m-pausing", retry={"seconds": 2.0}))
    text, outcome = await asked(
        models, "openai/m-refusing", waits=waits, stream=True, **direct(own)
    )
    assert text == ANSWER * 3 + " Bye."
    assert outcome.ending == "fell_back"

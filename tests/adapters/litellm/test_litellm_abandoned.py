"""Whole responses that a Router brings, and whose request is cancelled meanwhile.

A caller who leaves has it cancelled, and so has a server whose time to end is up.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("litellm")

from test_litellm_parts import answer

from demur.adapters.litellm import DemurGuardrail
from demur.adapters.litellm.chain import AttemptRefusedError
from demur.adapters.litellm.exchange import KEY
from demur.testing import CapturedRecords, PhraseDetector
from demur.vocabulary import Outcome

REFUSAL = "I can't help with that."
RETRY: dict[str, Any] = {"fallbacks": ["second"]}


class Gateway:
    """Calls the hooks as the proxy's Router does, up to a call that nobody answers."""

    def __init__(self, **retry: Any) -> None:
        rule = {"name": "r", "actions": ["tag", "log", "retry"], "retry": {**RETRY, **retry}}
        self.captured = CapturedRecords()
        self.hooks: Any = DemurGuardrail(
            {"version": 1, "rules": [rule]},
            detector=PhraseDetector(),
            sinks=[self.captured],
            event_hook=["pre_call", "post_call"],
        )

    async def begin(self, *, stream: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = {
            "model": "primary",
            "messages": [],
            "stream": stream,
            "metadata": {"model_group": "primary"},
            "litellm_call_id": "1",
            "proxy_server_request": {},
        }
        begun: dict[str, Any] = await self.hooks.async_pre_call_hook(
            None, None, data, "acompletion"
        )
        return begun

    async def ask(self, *answers: str, stream: bool = False) -> Any:
        data = await self.begin(stream=stream)
        return await asyncio.create_task(self.call(data, answers))

    async def call(self, data: dict[str, Any], answers: tuple[str, ...]) -> Any:
        for text in answers:
            data["litellm_logging_obj"] = None
            await self.hooks.async_pre_call_deployment_hook(data, "acompletion")
            response = answer(text)
            try:
                await self.hooks.async_post_call_success_deployment_hook(
                    data, response, "acompletion"
                )
            except AttemptRefusedError:
                data["metadata"]["model_group"] = "second"
                continue
            return response
        await self.hooks.async_pre_call_deployment_hook(data, "acompletion")
        return await asyncio.Event().wait()

    async def leave(self, *answers: str, stream: bool = False) -> Outcome:
        """The record of a request that is cancelled while a call is not answered."""
        asking = asyncio.create_task(self.ask(*answers, stream=stream))
        for _ in range(50):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        for _ in range(50):
            await asyncio.sleep(0)
        (record,) = self.captured.records
        return record


@pytest.fixture
def in_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Router whose groups everybody may use."""
    router = SimpleNamespace(max_fallbacks=5, fallbacks=[], content_policy_fallbacks=[])
    monkeypatch.setattr("demur.adapters.litellm.guardrail.proxy_router", lambda: router)

    async def usable(_key: Any, _router: Any, targets: Any) -> Any:
        return tuple(targets)

    monkeypatch.setattr("demur.adapters.litellm.guardrail.usable_in_proxy", usable)
    monkeypatch.setattr("demur.adapters.litellm.guardrail.flush_at_shutdown", lambda: None)


@pytest.mark.usefixtures("in_proxy")
async def test_between_refusal_and_fallback() -> None:
    """What was refused is on record, once, as it is of a stream."""
    record = await Gateway().leave(REFUSAL)
    assert record.ending == "abandoned"
    assert [(a.model, a.outcome) for a in record.attempts] == [("primary", "refused")]


@pytest.mark.usefixtures("in_proxy")
@pytest.mark.parametrize("stream", [False, True])
async def test_before_any_answer(stream: bool) -> None:
    """That nobody has answered is on record too."""
    record = await Gateway().leave(stream=stream)
    assert (record.ending, record.attempts, record.stream) == ("abandoned", (), stream)


@pytest.mark.usefixtures("in_proxy")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_probe(stream: bool) -> None:
    """A breaker's probe that is cancelled leaves its place to the next request."""
    breaker = {"least": 1, "rate": 0.5, "window": 60.0, "pause": 0.01}
    gateway = Gateway(breaker=breaker)
    assert await gateway.ask(REFUSAL, "Sure.")
    started = None
    while started != "probe":
        gateway.captured.records.clear()
        started = (await gateway.leave(stream=stream)).started
    gateway.captured.records.clear()
    assert (await gateway.leave(stream=stream)).started == "probe"


@pytest.mark.usefixtures("in_proxy")
async def test_who_stays() -> None:
    """A request that is answered has its one record, and leaves nothing to its caller's task."""
    gateway = Gateway()
    data = await gateway.begin()
    found = weakref.ref(data["metadata"][KEY])
    assert await gateway.call(data, (REFUSAL, "Sure."))
    assert [record.ending for record in gateway.captured.records] == ["fell_back"]
    del data
    gc.collect()
    assert found() is None

"""Callers of both kinds: they make a scenario's request and say what they saw."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import demur

from .scenario import PATIENCE, Scenario
from .sighting import Sighting


def call(client: Any, scenario: Scenario) -> Sighting:
    """A blocking caller."""
    seen = Sighting()
    try:
        _call(client, scenario, seen)
    except Exception as error:  # noqa: BLE001 - what came is what is to be judged
        _note(seen, error)
    return seen


async def call_async(client: Any, scenario: Scenario) -> Sighting:
    seen = Sighting()
    task = asyncio.ensure_future(_call_async(client, scenario, seen))
    try:
        if scenario.consumer == "cancel":
            await asyncio.wait({task}, timeout=scenario.seconds)
            seen.left = task.cancel()
        await task
    except asyncio.CancelledError as error:
        if not seen.left:
            task.cancel()
            raise  # somebody ran out of patience with this caller
        _note(seen, error)
    except Exception as error:  # noqa: BLE001
        _note(seen, error)
    return seen


def _note(seen: Sighting, error: BaseException) -> None:
    seen.error = type(error).__name__
    seen.cause = repr(error.__cause__)
    if isinstance(error, demur.RefusedError):
        seen.outcome = error.outcome


def request(scenario: Scenario) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": scenario.model}
    said = str(scenario.number)
    if scenario.api == "chat":
        fields["messages"] = [{"role": "user", "content": said}]
    else:
        fields["input"] = said
    if scenario.stream:
        fields["stream"] = True
    if scenario.consumer == "timeout":
        fields["timeout"] = PATIENCE
    return fields


def resource(client: Any, scenario: Scenario) -> Any:
    of_api = client.chat.completions if scenario.api == "chat" else client.responses
    forms = {"create": "", "raw": "with_raw_response", "streamed": "with_streaming_response"}
    form = forms[scenario.form]
    return getattr(of_api, form) if form else of_api


def _call(client: Any, scenario: Scenario, seen: Sighting) -> None:
    create = resource(client, scenario).create
    if scenario.form == "streamed":
        with create(**request(scenario)) as response:
            seen.outcome = demur.outcome_of(response)
            if not scenario.stream:
                seen.see(response.json())
                return
            for count, line in enumerate(response.iter_lines(), 1):
                seen.see_line(line)
                if scenario.consumer in ("close", "drop") and count == 2 * scenario.items:
                    seen.left = True
                    return
        return
    answer = create(**request(scenario))
    answer = answer.parse() if scenario.form == "raw" else answer
    if not scenario.stream:
        seen.outcome = demur.outcome_of(answer)
        seen.see_object(answer)
        return
    closer = threading.Timer(PATIENCE, _close, [answer, seen])
    if scenario.consumer == "closer":
        closer.start()
    try:
        for count, item in enumerate(answer, 1):
            seen.see_object(item)
            if scenario.consumer in ("close", "drop") and count == scenario.items:
                seen.left = True
                break
    finally:
        closer.cancel()
        seen.outcome = demur.outcome_of(answer)
    if scenario.consumer != "drop":
        answer.close()


def _close(answer: Any, seen: Sighting) -> None:
    seen.left = True
    answer.close()


async def _call_async(client: Any, scenario: Scenario, seen: Sighting) -> None:
    create = resource(client, scenario).create
    if scenario.form == "streamed":
        async with create(**request(scenario)) as response:
            seen.outcome = demur.outcome_of(response)
            if not scenario.stream:
                seen.see(await response.json())
                return
            count = 0
            async for line in response.iter_lines():
                seen.see_line(line)
                count += 1
                if scenario.consumer in ("close", "drop") and count == 2 * scenario.items:
                    seen.left = True
                    return
        return
    answer = await create(**request(scenario))
    answer = answer.parse() if scenario.form == "raw" else answer
    if not scenario.stream:
        seen.outcome = demur.outcome_of(answer)
        seen.see_object(answer)
        return
    closer = asyncio.ensure_future(_close_later(answer, seen, scenario.consumer == "closer"))
    try:
        count = 0
        async for item in answer:
            seen.see_object(item)
            count += 1
            if scenario.consumer in ("close", "drop") and count == scenario.items:
                seen.left = True
                break
    finally:
        closer.cancel()
        seen.outcome = demur.outcome_of(answer)
    if scenario.consumer != "drop":
        await answer.close()


async def _close_later(answer: Any, seen: Sighting, wanted: bool) -> None:
    if wanted:
        await asyncio.sleep(PATIENCE)
        seen.left = True
        await answer.close()

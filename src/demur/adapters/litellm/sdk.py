"""Plain ``litellm.acompletion``, without a Router: demur makes the fallback calls itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import count
from typing import Any, Final

import litellm
from litellm.exceptions import BadRequestError

from ...detection import Detector
from ...drivers.awaiting import run_completion
from ...flow.completion import Served, completion_flow
from ...vocabulary import Chunk, Completion, Outcome, Target
from .exchange import Exchange
from .rows import Row, keep_out_of_the_log
from .surfaces import read_completion

calling: Final[ContextVar[bool]] = ContextVar("demur_calling", default=False)
"""Set while demur makes a call: its own fallbacks are not judged once more by the hook."""

_calls: Final[ContextVar[dict[int, Row] | None]] = ContextVar("demur_calls", default=None)
"""The rows of calls demur has made, by their logging objects."""

_ASKED: Final = "_demur_asked"
_OF_THE_FIRST_CALL = frozenset({"litellm_call_id", "litellm_logging_obj", "fallbacks"})


class SdkPort:
    """The awaiting driver's way to the models of one ``acompletion``.

    ``rows`` are what LiteLLM is kept from logging, by the attempt's place in the outcome.
    """

    def __init__(self, exchange: Exchange, first: Any, request: Mapping[str, Any]) -> None:
        self.plan = exchange.plan
        self.exchange = exchange
        self.rows: dict[int, Row] = {}
        self._first = first
        self._request = request
        self._places = count()

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return await self.exchange.usable(targets)

    async def call(self, target: Target, attempt: int, timeout: float | None) -> Completion:
        place = next(self._places)
        if attempt == 0:
            logging_obj = self._request.get("litellm_logging_obj")
            return read_completion(self.exchange.surface, self._first, logging_obj)
        request = fallback_request(self._request, target)
        calls: dict[int, Row] = {}
        token = _calls.set(calls)
        try:
            native = await asyncio.wait_for(litellm.acompletion(**request), timeout)
        finally:
            _calls.reset(token)
            self.rows.update((place, row) for row in calls.values())
        return read_completion(self.exchange.surface, native)

    async def open(self, target: Target, attempt: int, timeout: float | None) -> Any:
        raise NotImplementedError("hooks see no streams in the SDK")

    async def read(self, stream: Any) -> Chunk | None:
        raise NotImplementedError

    async def close(self, stream: Any) -> None:
        raise NotImplementedError

    def emit(self, record: Outcome) -> None:
        self.exchange.emit(record)


async def serve(port: SdkPort, detector: Detector) -> Served:
    """Run the request's flow from the response at hand on."""
    token = calling.set(True)
    try:
        flow = completion_flow(port.plan, port.exchange.start)
        return await run_completion(flow, port, detector, port.exchange.store)
    finally:
        calling.reset(token)


def take_row(data: Mapping[str, Any], response: Any) -> None:
    """If demur has made this call, it is logged once its verdict is known."""
    calls, logging_obj = _calls.get(), data.get("litellm_logging_obj")
    if calls is not None and logging_obj is not None and id(logging_obj) not in calls:
        calls[id(logging_obj)] = Row(logging_obj, response)
        keep_out_of_the_log(logging_obj)


def note_positional(kwargs: Mapping[str, Any]) -> None:
    """Arguments given by position are in no hook's: before the call the logging object has them."""
    logging_obj = kwargs.get("litellm_logging_obj")
    if logging_obj is not None and ("model" not in kwargs or "messages" not in kwargs):
        asked = {"model": logging_obj.model, "messages": logging_obj.messages}
        setattr(logging_obj, _ASKED, asked)


def with_positional(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The same arguments, and those."""
    asked = getattr(kwargs.get("litellm_logging_obj"), _ASKED, None)
    return kwargs if asked is None else {**asked, **kwargs}


def fallback_request(request: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The original request, patched for ``target``.

    Another provider never gets this provider's key or address: LiteLLM then looks up its own.
    """
    fresh = {k: v for k, v in request.items() if k not in _OF_THE_FIRST_CALL and v is not None}
    elsewhere = target.base_url is not None or target.api_key_env is not None
    if elsewhere or _provider(target.model) != _provider(str(request.get("model"))):
        for name in ("api_key", "api_base", "base_url", "api_version", "organization", "client"):
            fresh.pop(name, None)
        fresh.pop("extra_headers", None)
    if target.base_url is not None:
        fresh["api_base"] = target.base_url
    if target.api_key_env is not None:
        fresh["api_key"] = os.environ.get(target.api_key_env)
    return {**fresh, **target.patch, "model": target.model}


def _provider(model: str) -> str:
    try:
        return str(litellm.get_llm_provider(model)[1])
    except BadRequestError:
        return model

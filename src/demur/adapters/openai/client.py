"""Clients whose ``request`` goes through a flow.

A wrapped client is an instance of a subclass of the caller's own class that overrides the one
method through which every HTTP call of the SDK passes, and those that make copies of the client.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any, TypeVar, cast

import openai

from ...attachment import EXTENSION, Settled, Source, attach
from ...drivers import awaiting, blocking
from ...errors import UnsupportedClientError
from ...flow.completion import completion_flow
from ...flow.plan import Plan
from ...flow.stream import stream_flow
from ...wire import shape_for
from .exchange import Exchange, OpenedStream, Wiring
from .ports import AwaitingPort, BlockingPort
from .replay import async_replay, replay
from .requests import read_request
from .twins import check_resources, plain_class, twin

ClientT = TypeVar("ClientT")

_WIRING = "_demur_wiring"
_log = logging.getLogger("demur")


def check_client(client: object) -> None:
    # Not by isinstance: a mock or a proxy claims to be what it stands for.
    if not issubclass(type(client), openai.OpenAI | openai.AsyncOpenAI):
        raise UnsupportedClientError(
            f"demur.wrap takes an OpenAI or AsyncOpenAI client or a subclass, "
            f"not {type(client).__module__}.{type(client).__qualname__}"
        )


def wrapped_copy(client: ClientT) -> ClientT:
    """A client like ``client`` that shares its connections; see ``wire``."""
    wrapped = twin(client, _wrapped_class(plain_class(type(client))))
    check_resources(client, wrapped)
    return cast(ClientT, wrapped)


def wire(wrapped: object, wiring: Wiring) -> None:
    """Have a wrapped copy do what ``wiring`` says."""
    vars(wrapped)[_WIRING] = wiring


@functools.cache
def _wrapped_class(plain: Any) -> type:
    make = _awaiting if issubclass(plain, openai.AsyncOpenAI) else _blocking
    request, close = make(plain)

    namespace = {
        "__doc__": plain.__doc__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "_demur_plain": plain,
        "request": request,
        "close": close,
        "copy": _copying(plain.copy),
        "with_options": _copying(plain.with_options),
    }
    return type(plain.__name__, (plain,), namespace)


def _copying(plain: Any) -> Any:
    @functools.wraps(plain)
    def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = plain(self, *args, **kwargs)
        wiring: Wiring | None = vars(self).get(_WIRING)
        if made is not self:
            # Closing a copy must not close what the others go on using.
            vars(made)[_WIRING] = wiring and replace(wiring, own=())
        return made

    return copy


def _blocking(plain: Any) -> tuple[Any, Any]:
    @functools.wraps(plain.request)
    def request(
        self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        exchange = _exchange(self, cast_to, options, stream, stream_cls)
        if exchange is None:
            return plain.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        port, wiring = BlockingPort(exchange), exchange.wiring
        if not stream:
            served = blocking.run_completion(
                completion_flow(exchange.plan), port, wiring.detector, wiring.store
            )
            result = exchange.parsed(served.completion.native)
            return _tagged(exchange, result, Settled(served.outcome))
        run = blocking.BlockingStream(
            stream_flow(exchange.plan), port, wiring.detector, wiring.store
        )
        held = run.advance() or ()
        opened: OpenedStream = run.served
        if opened.read_before:
            while run.advance() is not None:
                pass
        else:
            opened.http.stream = replay(opened.source, run, held, opened.raise_failure)
        return _tagged_stream(exchange, opened, lambda: run.outcome)

    @functools.wraps(plain.close)
    def close(self: Any) -> None:
        plain.close(self)
        for own in _own_clients(self):
            own.close()

    return request, close


def _awaiting(plain: Any) -> tuple[Any, Any]:
    @functools.wraps(plain.request)
    async def request(
        self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        exchange = _exchange(self, cast_to, options, stream, stream_cls)
        if exchange is None:
            return await plain.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        port, wiring = AwaitingPort(exchange), exchange.wiring
        if not stream:
            served = await awaiting.run_completion(
                completion_flow(exchange.plan), port, wiring.detector, wiring.store
            )
            result = exchange.parsed(served.completion.native)
            return _tagged(exchange, result, Settled(served.outcome))
        run = awaiting.AwaitingStream(
            stream_flow(exchange.plan), port, wiring.detector, wiring.store
        )
        held = await run.advance() or ()
        opened: OpenedStream = run.served
        if opened.read_before:
            while await run.advance() is not None:
                pass
        else:
            opened.http.stream = async_replay(opened.source, run, held, opened.raise_failure)
        return _tagged_stream(exchange, opened, lambda: run.outcome)

    @functools.wraps(plain.close)
    async def close(self: Any) -> None:
        await plain.close(self)
        for own in _own_clients(self):
            await own.close()

    return request, close


def _own_clients(client: Any) -> tuple[Any, ...]:
    wiring: Wiring | None = vars(client).get(_WIRING)
    return wiring.own if wiring else ()


def _exchange(
    client: Any, cast_to: Any, options: Any, stream: bool, stream_cls: Any
) -> Exchange | None:
    """The request as one to be judged; ``None`` where it is to pass untouched."""
    wiring: Wiring | None = vars(client).get(_WIRING)
    if wiring is None:
        return None
    try:
        request = read_request(options, client.default_headers)
        if request is None:
            return None
        plan = Plan.of(
            wiring.policy,
            api=request.api,
            model=request.model,
            stream=stream,
            metadata=request.metadata,
            choices=request.choices,
            conversation=request.conversation,
            elsewhere=wiring.clients,
        )
    except Exception as error:  # noqa: BLE001 - the fail-open edge
        _log.warning("demur: request not judged, reading it failed with %s", type(error).__name__)
        return None
    if plan is None:
        return None
    return Exchange(
        wiring, plan, shape_for(request.api), client, cast_to, options, stream, stream_cls
    )


def _tagged(exchange: Exchange, result: Any, source: Source) -> Any:
    if exchange.plan.tags:
        attach(result, source)
        http = getattr(result, "http_response", None)
        if http is not None:
            http.extensions[EXTENSION] = source
    return result


def _tagged_stream(exchange: Exchange, opened: OpenedStream, source: Source) -> Any:
    if exchange.plan.tags:
        attach(opened.result, source)
        opened.http.extensions[EXTENSION] = source
    return opened.result

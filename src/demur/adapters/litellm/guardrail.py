"""The hooks LiteLLM calls. They translate; what to do about a response the flows decide.

In the proxy the Router makes the fallback calls: the pre-call hook hands it the policy's chain, the
deployment hook turns a refused attempt into an error it falls back on. For streams, whose items the
deployment hook never sees, demur opens the fallback on the Router itself.

LiteLLM only calls hooks that are defined on the registered class itself, so this one is final.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, TypeVar, final

from litellm.integrations.custom_guardrail import CustomGuardrail
from typing_extensions import ParamSpec

from ...attachment import attach, outcome_of
from ...detection import Detector
from ...errors import RefusedError
from ...flow.plan import Plan
from ...sinks import sinks_for
from ...vocabulary import Outcome, Target
from . import chain, exchange, routers, sdk
from .exchange import Exchange, Rights
from .headers import headers_of, show, show_in_stream, shown_group
from .requests import choices_of, matchable, opted_out, through_proxy
from .rights import usable_in_proxy
from .settings import Source, check_mode, detector_of, policy_of
from .spend import (
    add_tags,
    bucket,
    keep_out_of_the_log,
    log_refused,
    metadata_of,
    tags_of,
    tags_of_verdict,
)
from .stream import Source as Stream
from .stream import StreamPort, relay
from .surfaces import Surface, in_own_shape, surface_for

P = ParamSpec("P")
T = TypeVar("T")
Data = dict[str, Any]

_log = logging.getLogger("demur")


def fail_open(
    hook: Callable[Concatenate[DemurGuardrail, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[DemurGuardrail, P], Coroutine[Any, Any, T | None]]:
    """A hook that never costs the caller the response: what goes wrong is logged by type."""

    @wraps(hook)
    async def guarded(self: DemurGuardrail, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return await hook(self, *args, **kwargs)
        except chain.AttemptRefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - the fail-open edge
            _log.warning(
                "demur: %s failed with %s; the request goes on", hook.__name__, type(error).__name__
            )
            return None

    return guarded


@final
class DemurGuardrail(CustomGuardrail):
    """demur in a LiteLLM proxy (``guardrails:``) or in the SDK (``litellm.callbacks``).

    ``policy`` is a path, a mapping or a ``Policy``; ``detector`` replaces the one it describes.
    ``router`` is an SDK ``Router`` whose model groups may fall back: its content-policy fallbacks
    are set from the policy. Raises ``PolicyError`` where the configuration cannot work.
    """

    def __init__(
        self,
        policy: Source | None = None,
        *,
        detector: Detector | None = None,
        router: Any = None,
        demur: Data | None = None,
        guardrail_name: str = "demur",
        event_hook: Any = None,
        default_on: bool = True,
        **others: Any,
    ) -> None:
        # ``others`` are the defaults of other vendors' guardrails, which LiteLLM passes to all.
        check_mode(event_hook)
        self._policy = policy_of(policy, demur)
        self._detector = detector_of(self._policy, detector)
        self._sink = sinks_for(self._policy)
        self._tasks: set[asyncio.Task[None]] = set()
        self._chains = routers.hand_over(router, self._policy) if router is not None else {}
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on
        )

    # -- the proxy, before the call

    @fail_open
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: Data, call_type: Any
    ) -> Data:
        """Note the request, and hand the Router the policy's chain as its fallbacks."""
        surface = surface_for(call_type)
        plan = self._plan(surface, data, data.get("model"))
        if surface is None or plan is None:
            return data
        router = _proxy_router()
        hands_off = router is None or chain.out_of_our_hands(data)
        rights = _nobody if hands_off else partial(_in_proxy, user_api_key_dict, router)
        stream = data.get("stream") is True
        bucket(data)[exchange.KEY] = self._exchange(
            plan, surface, rights, stream=stream, call_id=data.get("litellm_call_id")
        )
        if plan.enforced and not stream and not hands_off:
            model = plan.requested.model
            handed = chain.entries(plan, data, routers.own_entries(router, model))
            data["content_policy_fallbacks"] = [{model: handed}]
            data["max_fallbacks"] = max(len(handed), router.max_fallbacks)
        return data

    # -- each attempt at a whole response

    @fail_open
    async def async_pre_call_deployment_hook(self, kwargs: Data, call_type: Any) -> Data:
        """Spare the Router calls nobody wants; note the requests of an SDK Router."""
        found = exchange.find(kwargs)
        if found is None:
            self._note_routed(kwargs, surface_for(call_type))
        elif found.refused is not None:
            raise chain.AttemptRefusedError(found.plan.requested.model, str(found.refused))
        elif found.owed is not None:
            kwargs["mock_response"] = chain.KEPT
        return kwargs

    async def async_post_call_success_deployment_hook(
        self, request_data: Data, response: Any, call_type: Any
    ) -> Any:
        """Judge an attempt. Raises to make the Router fall back, else says what to serve."""
        found = exchange.find(request_data)
        if request_data.get("mock_response") == chain.KEPT:
            return await _serve_kept(found, request_data, response)
        if found is None:
            return await self._serve_plain(request_data, response, surface_for(call_type))
        if not found.stream:
            await self._bring(found, request_data, response)
        return None

    @fail_open
    async def _bring(self, found: Exchange, data: Data, response: Any) -> None:
        group = chain.group_of(metadata_of(data))
        try:
            serve_it = await found.bring(response, group, routed=group is not None)
        except RefusedError as error:
            raise chain.AttemptRefusedError(found.plan.requested.model, str(error)) from None
        finally:
            _tag(found, data)
        if not serve_it:
            raise chain.AttemptRefusedError(found.plan.requested.model)
        _attach(found, response)

    # -- the proxy, after the call

    @fail_open
    async def async_post_call_success_hook(
        self, data: Data, user_api_key_dict: Any, response: Any
    ) -> Any:
        """Judge what no deployment hook has seen: a response out of LiteLLM's cache."""
        found = exchange.find(data)
        if found is None or found.stream or found.settled:
            return None
        try:
            if await found.bring(response, shown_group(response), routed=False):
                return None
            kept = await found.give_up()
        except RefusedError as error:
            raise chain.AttemptRefusedError(found.plan.requested.model, str(error)) from None
        finally:
            _tag(found, data)
        return None if kept is None else in_own_shape(found.surface, kept, response)

    @fail_open
    async def async_post_call_response_headers_hook(
        self,
        data: Data,
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: Data | None = None,
    ) -> dict[str, str] | None:
        found = exchange.find(data)
        if found is None or found.outcome is None or "tag" not in found.plan.rule.actions:
            return None
        return headers_of(found.outcome)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Data
    ) -> AsyncGenerator[Any, None]:
        """Hold the head of a stream, then release it or switch."""
        found = exchange.find(request_data)
        if found is None or not found.stream:
            async for item in response:
                yield item
            return
        port = StreamPort(found, response, request_data, _proxy_router())
        released = partial(self._released, found, port, response)
        items = relay(found.plan, port, self._detector, released)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
            _tag(found, request_data)

    def _released(
        self,
        found: Exchange,
        port: StreamPort,
        response: Any,
        served: Stream,
        first: Any,
        outcome: Outcome,
    ) -> None:
        if "tag" in found.plan.rule.actions:
            show_in_stream(response, served.native, first, outcome)
        if len(outcome.attempts) > 1:
            self._behind_the_response(port.log_refused(served, outcome))

    def _behind_the_response(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.warning("demur: a refused stream is not logged: %s", type(error).__name__)

    # -- the SDK

    def _note_routed(self, kwargs: Data, surface: Surface | None) -> None:
        """An SDK Router's first attempt: what the pre-call hook does in the proxy."""
        group = chain.group_of(metadata_of(kwargs))
        if not self._chains or group is None or not _is_ours(kwargs, surface):
            return
        plan = self._plan(surface, kwargs, group)
        if surface is not None and plan is not None:
            handed = self._chains.get(group) == plan.chain
            found = self._exchange(plan, surface, _everybody if handed else _nobody)
            bucket(kwargs)[exchange.KEY] = found

    @fail_open
    async def _serve_plain(self, data: Data, response: Any, surface: Surface | None) -> Any:
        """An ``acompletion`` without a Router: demur makes the fallback calls itself."""
        if not _is_ours(data, surface) or outcome_of(response) is not None:
            return None
        group = chain.group_of(metadata_of(data))
        plan = self._plan(surface, data, group or data.get("model"))
        if surface is None or plan is None:
            return None
        rights = _everybody if group is None else _nobody
        found = self._exchange(plan, surface, rights)
        try:
            served = await sdk.serve(sdk.SdkPort(found, response, data), self._detector)
        except RefusedError as error:
            raise chain.AttemptRefusedError(plan.requested.model, str(error)) from error
        finally:
            _tag(found, data)
        native = served.completion.native
        _attach(found, native)
        if native is response:
            return None
        verdict = served.outcome.attempts[0].verdict
        tags = list(tags_of_verdict(verdict)) if verdict is not None else []
        logging_obj = data.get("litellm_logging_obj")
        keep_out_of_the_log(logging_obj)
        self._behind_the_response(log_refused(logging_obj, response, tags))
        return native

    # -- shared

    def _plan(self, surface: Surface | None, data: Data, model: Any) -> Plan | None:
        # Several models at once, separated by commas, race each other: nothing to fall back on.
        if surface is None or not isinstance(model, str) or "," in model or opted_out(data):
            return None
        return Plan.of(
            self._policy,
            api=surface.api,
            model=model,
            stream=data.get("stream") is True,
            metadata=matchable(data),
            choices=choices_of(data),
            id=data.get("litellm_call_id"),
        )

    def _exchange(
        self,
        plan: Plan,
        surface: Surface,
        rights: Rights,
        *,
        stream: bool = False,
        call_id: str | None = None,
    ) -> Exchange:
        return Exchange(
            plan,
            surface,
            self._detector,
            rights,
            partial(self._record, plan),
            stream=stream,
            call_id=call_id,
        )

    def _record(self, plan: Plan, outcome: Outcome) -> None:
        if outcome.finished and "log" in plan.rule.actions:
            self._sink(outcome)


def _is_ours(data: Data, surface: Surface | None) -> bool:
    """Whether a deployment hook is called for an SDK user's own chat completion."""
    if surface is None or surface.api != "chat" or sdk.calling.get() or data.get("stream"):
        return False
    return not through_proxy(data) and exchange.KEY not in metadata_of(data)


async def _serve_kept(found: Exchange | None, data: Data, response: Any) -> Any:
    """The end of the chain: its mocked answer must never be what the caller gets."""
    model = str(data.get("model"))
    if found is None:
        raise chain.AttemptRefusedError(model, "nothing was kept")
    try:
        kept = await found.give_up()
    except RefusedError as error:
        raise chain.AttemptRefusedError(model, str(error)) from None
    finally:
        _tag(found, data)
    if kept is None:
        raise chain.AttemptRefusedError(model, "nothing was kept")
    native = in_own_shape(found.surface, kept, response)
    _attach(found, native)
    return native


def _attach(found: Exchange, response: Any) -> None:
    """Let SDK users ask the response for its outcome, and see the headers a proxy would send."""
    if found.outcome is not None and "tag" in found.plan.rule.actions:
        attach(response, lambda: found.outcome)
        show(response, found.outcome)


def _tag(found: Exchange, data: Data) -> None:
    """Tag this attempt's row in the gateway's log."""
    if "tag" not in found.plan.rule.actions:
        return
    if found.outcome is not None:
        add_tags(data, tags_of(found.outcome))
    elif found.verdict is not None:
        add_tags(data, tags_of_verdict(found.verdict))


def _proxy_router() -> Any:
    return getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)


async def _in_proxy(caller: Any, router: Any, targets: Sequence[Target]) -> tuple[Target, ...]:
    return await usable_in_proxy(targets, caller, router)


async def _everybody(targets: Sequence[Target]) -> tuple[Target, ...]:
    return tuple(targets)


async def _nobody(targets: Sequence[Target]) -> tuple[Target, ...]:
    return ()

"""The hooks LiteLLM calls. They translate; what to do about a response the flows decide.

In the proxy the Router makes the fallback calls: the pre-call hook hands it the policy's chain, the
deployment hook turns a refused attempt into an error it falls back on. For streams, whose items the
deployment hook never sees, demur opens the fallback on the Router itself.

LiteLLM only calls hooks that are defined on the registered class itself, so this one is final.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from functools import partial, wraps
from typing import Any, Concatenate, TypeVar, final

from litellm.exceptions import ContentPolicyViolationError
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.types.guardrails import GuardrailEventHooks
from typing_extensions import ParamSpec

from ...attachment import outcome_of
from ...detection import Detector
from ...errors import RefusedError
from ...flow.plan import Plan
from ...sinks import Sinks
from ...vocabulary import Outcome
from . import chain, exchange, routers, sdk
from .exchange import Exchange
from .headers import headers_of, show_in_stream, shown_group
from .marks import mark, marks_of, record_of, show_outcome
from .once import check_loaded_once, stands_aside
from .requests import choices_of, matchable, opted_out, through_proxy
from .rights import everybody, proxy_router, usable_in_proxy
from .settings import Source, check_mode, policy_of
from .setup import setups_of
from .spend import bucket, keep_out_of_the_log, log_refused, metadata_of, set_apart, tags_of
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
        if stands_aside(self):
            return None
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
        check_loaded_once(type(self), guardrail_name, in_config=event_hook is not None)
        self._chains = routers.Chains(router)
        self._setups = setups_of(policy_of(policy, demur), detector, self._chains.hand_over)
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on
        )

    # -- the proxy, before the call

    @fail_open
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: Data, call_type: Any
    ) -> Data:
        """Note the request, and hand the Router the policy's chain as its fallbacks."""
        found = self._exchange(surface_for(call_type), data, data.get("model"))
        if found is None:
            return data
        router = proxy_router()
        hands_off = router is None or chain.out_of_our_hands(data)
        if not hands_off:
            found.rights = partial(usable_in_proxy, user_api_key_dict, router)
        found.stream = data.get("stream") is True
        found.call_id = data.get("litellm_call_id")
        bucket(data)[exchange.KEY] = found
        if found.plan.enforced and not found.stream and not hands_off:
            model = found.plan.requested.model
            handed = chain.entries(found.plan, data, routers.own_entries(router, model))
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
        elif found.spares(chain.group_of(metadata_of(kwargs))):
            raise chain.AttemptRefusedError(found.plan.requested.model, "not called")
        return kwargs

    @fail_open
    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """Note errors that are the provider's own, and that the Router takes for refusals."""
        found = exchange.find(request_data)
        if found is not None and not isinstance(exception, chain.AttemptRefusedError):
            found.forbidden = isinstance(exception, ContentPolicyViolationError)

    async def async_post_call_success_deployment_hook(
        self, request_data: Data, response: Any, call_type: Any
    ) -> Any:
        """Judge an attempt. Raises to make the Router fall back, else says what to serve."""
        if stands_aside(self):
            return None
        found = exchange.find(request_data)
        if request_data.get("mock_response") == chain.KEPT:
            return await self._serve_kept(found, request_data, response)
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
            mark(self, found, data)
        if not serve_it:
            raise chain.AttemptRefusedError(found.plan.requested.model)
        show_outcome(found, response)

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
            mark(self, found, data)
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
        if found is None or not found.stream or stands_aside(self):
            async for item in response:
                yield item
            return
        port = StreamPort(found, response, request_data, proxy_router())
        released = partial(self._released, found, port, request_data, response)
        items = relay(found.plan, port, found.detector, released)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
            mark(self, found, request_data)

    def _released(
        self,
        found: Exchange,
        port: StreamPort,
        request: Data,
        response: Any,
        served: Stream,
        first: Any,
        outcome: Outcome,
    ) -> None:
        if "tag" in found.plan.rule.actions:
            show_in_stream(response, served.native, first, outcome)
            if served.attempt == 0:
                mark(self, found, request)
            else:
                served.tags.extend(tags_of(outcome))
                served.records.extend(record_of(self, found.verdict, found.seconds))
        if len(outcome.attempts) > 1:
            self._behind_the_response(port.log_refused(served, outcome, partial(marks_of, self)))

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
        if not self._chains.known or group is None or not self._is_ours(kwargs, surface):
            return
        found = self._exchange(surface, kwargs, group)
        if found is not None:
            if self._chains.known.get(group) == found.plan.chain:
                found.rights = everybody
            bucket(kwargs)[exchange.KEY] = found

    @fail_open
    async def _serve_plain(self, data: Data, response: Any, surface: Surface | None) -> Any:
        """An ``acompletion`` without a Router: demur makes the fallback calls itself."""
        if not self._is_ours(data, surface) or outcome_of(response) is not None:
            return None
        group = chain.group_of(metadata_of(data))
        found = self._exchange(surface, data, group or data.get("model"))
        if found is None:
            return None
        if group is None:
            found.rights = everybody
        try:
            served = await sdk.serve(sdk.SdkPort(found, response, data), found.detector)
        except RefusedError as error:
            raise chain.AttemptRefusedError(found.plan.requested.model, str(error)) from error
        finally:
            mark(self, found, data)
        native = served.completion.native
        show_outcome(found, native)
        if native is response:
            return None
        logging_obj = data.get("litellm_logging_obj")
        keep_out_of_the_log(logging_obj)
        first = served.outcome.attempts[0]
        refused = set_apart(logging_obj, marks_of(self, first))
        self._behind_the_response(log_refused(refused, response))
        return native

    def _is_ours(self, data: Data, surface: Surface | None) -> bool:
        """Whether a deployment hook is called for an SDK user's own chat completion."""
        if surface is None or surface.api != "chat" or sdk.calling.get() or data.get("stream"):
            return False
        if through_proxy(data) or exchange.KEY in metadata_of(data):
            return False
        return self.should_run_guardrail(data, GuardrailEventHooks.post_call) is True

    # -- shared

    def _exchange(self, surface: Surface | None, data: Data, model: Any) -> Exchange | None:
        """What begins with a request; ``None`` where there is nothing to do for it."""
        # Several models at once, separated by commas, race each other: nothing to fall back on.
        if surface is None or not isinstance(model, str) or "," in model or opted_out(data):
            return None
        setup = self._setups.current
        plan = Plan.of(
            setup.policy,
            api=surface.api,
            model=model,
            stream=data.get("stream") is True,
            metadata=matchable(data),
            choices=choices_of(data),
            id=data.get("litellm_call_id"),
        )
        if plan is None:
            return None
        return Exchange(plan, surface, setup.detector, partial(_write, plan, setup.sinks))

    async def _serve_kept(self, found: Exchange | None, data: Data, response: Any) -> Any:
        """The end of the chain: its mocked answer must never be what the caller gets."""
        model = str(data.get("model"))
        if found is None:
            raise chain.AttemptRefusedError(model, "nothing was kept")
        try:
            kept = await found.give_up()
        except RefusedError as error:
            raise chain.AttemptRefusedError(model, str(error)) from None
        finally:
            mark(self, found, data)
        if kept is None:
            raise chain.AttemptRefusedError(model, "nothing was kept")
        native = in_own_shape(found.surface, kept, response)
        show_outcome(found, native)
        return native


def _write(plan: Plan, sinks: Sinks, outcome: Outcome) -> None:
    if outcome.finished and "log" in plan.rule.actions:
        sinks(outcome)

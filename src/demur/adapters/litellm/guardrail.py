"""The hooks LiteLLM calls. They translate; what to do about a response the flows decide.

In the proxy the Router makes the fallback calls: the pre-call hook hands it the policy's chain, the
deployment hook turns a refused attempt into an error it falls back on. For streams, whose items the
deployment hook never sees, demur opens the fallback on the Router itself.

LiteLLM only calls hooks that are defined on the registered class itself, so this one is final.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, final

from litellm.exceptions import ContentPolicyViolationError
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.types.guardrails import GuardrailEventHooks

from ...attachment import outcome_of
from ...detection import Detector
from ...errors import RefusedError
from ...flow.plan import Plan
from ...sinks import Sink, Sinks
from ...vocabulary import Outcome
from . import calling, chain, exchange, inner, routers, sdk
from .background import Background
from .calling import CallingPort
from .edge import fail_open
from .exchange import Exchange
from .headers import headers_of
from .marks import forget_record, mark, show_outcome
from .once import check_loaded_once, stands_aside
from .parking import parking_of
from .requests import choices_of, is_streamed, matchable, opted_out, through_proxy
from .rights import everybody, nobody, proxy_router, usable_in_proxy
from .rows import (
    Row,
    keep_failure_out_of_the_log,
    keep_out_of_the_cache,
    keep_out_of_the_log,
    let_failures_into_the_log,
)
from .settings import Source, check_mode, policy_of
from .settlement import Settlement
from .setup import setups_of
from .shutdown import flush_at_shutdown
from .spend import bucket, metadata_of, tags_of
from .starting import (
    call_after_all,
    conversation_of,
    find_start,
    hand_over,
    reroute,
    show_start,
)
from .state import priced
from .stream import StreamPort, relay
from .stream_usage import strip_from_fallbacks
from .surfaces import CHAT, Surface, surface_for
from .telling import told_at_end
from .whole import Attempts

Data = dict[str, Any]


@final
class DemurGuardrail(CustomGuardrail):
    """demur in a LiteLLM proxy (``guardrails:``) or in the SDK (``litellm.callbacks``).

    ``policy`` is a path, a mapping or a ``Policy``; ``detector`` replaces the one it describes.
    ``router`` is an SDK ``Router`` whose model groups may fall back: its content-policy fallbacks
    are set from the policy. ``sinks`` are called with each ``Outcome`` that a rule logs, after the
    policy's own; they are yours to close. Raises ``PolicyError`` where the configuration cannot
    work, ``ModelError`` for a model that does not load, ``MissingExtraError`` where a package that
    is needed is not installed.
    """

    def __init_subclass__(cls, **_: Any) -> None:
        raise TypeError(
            f"{cls.__qualname__}: LiteLLM calls no hook that a guardrail's class inherits, so a "
            "subclass of DemurGuardrail would let streams pass unseen; pass it detector= instead"
        )

    def __init__(
        self,
        policy: Source | None = None,
        *,
        detector: Detector | None = None,
        router: Any = None,
        sinks: Sequence[Sink] = (),
        demur: Data | None = None,
        guardrail_name: str = "demur",
        event_hook: Any = None,
        default_on: bool = True,
        **others: Any,
    ) -> None:
        # ``others`` are the defaults of other vendors' guardrails, which LiteLLM passes to all.
        check_mode(event_hook, others)
        self.source = policy_of(policy, demur)
        in_config = event_hook is not None
        check_loaded_once(type(self), guardrail_name, self.source, in_config=in_config)
        self._chains = routers.Chains(router)
        self._setups = setups_of(self.source, detector, self._chains.hand_over, sinks)
        self._background = Background()
        self._attempts = Attempts(self, self._background)
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on
        )
        if in_config:
            flush_at_shutdown()

    # -- the proxy, before the call

    @fail_open
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: Data, call_type: Any
    ) -> Data:
        """Note the request, and hand the Router the policy's chain as its fallbacks."""
        if not through_proxy(data):
            # One of a batch, in a file that is uploaded with whatever is put into it.
            return data
        found = self._exchange(surface_for(call_type), data, data.get("model"))
        if found is None:
            return data
        router = proxy_router()
        hands_off = router is None or chain.out_of_our_hands(
            data, routers.holding(router, data, "fallbacks")
        )
        if not hands_off:
            found.rights = partial(usable_in_proxy, user_api_key_dict, router)
        found.stream = is_streamed(found.surface.api, data)
        found.call_id = data.get("litellm_call_id")
        bucket(data)[exchange.KEY] = found
        await find_start(found)
        if found.plan.enforced and found.stream and found.surface is CHAT:
            strip_from_fallbacks(data)
        if found.moved:
            reroute(found, data, router)
        elif found.plan.enforced and not hands_off:
            hand_over(found, data, router)
        return data

    # -- each attempt at a whole response

    @fail_open
    async def async_pre_call_deployment_hook(self, kwargs: Data, call_type: Any) -> Data:
        """Spare the Router calls nobody wants; note the requests of an SDK Router."""
        if inner.is_inner(kwargs):
            inner.pass_over(kwargs)
            return kwargs
        found = exchange.find(kwargs)
        logging_obj = kwargs.get("litellm_logging_obj")
        if found is None:
            parking = parking_of(kwargs)
            if parking is not None:
                parking.take(logging_obj)
            else:
                sdk.note_positional(kwargs)
                self._note_routed(kwargs, surface_for(call_type))
            return kwargs
        asked = chain.asked_of_router(metadata_of(kwargs))
        if found.call_id is not None and asked not in (None, found.asked):
            # A guardrail behind this one wants another model: the chain may not be what it wants,
            # and the Router would not find it.
            found.rights = nobody
        mocked = kwargs.get("mock_response") == chain.KEPT
        group = chain.group_of(metadata_of(kwargs))
        unwanted = found.unwanted(group, mocked=mocked)
        if unwanted is not None and found.gives_up_at(group):
            kwargs["mock_response"] = chain.KEPT
        elif unwanted is not None:
            keep_failure_out_of_the_log(logging_obj)
            raise chain.AttemptRefusedError(found.plan.requested.model, unwanted)
        if found.owed is not None:
            kwargs["mock_response"] = chain.KEPT
        call_after_all(found, kwargs)
        forget_record(self, kwargs)
        if found.goes_on_to(group):
            let_failures_into_the_log(logging_obj)
        self._attempts.watch(found)
        found.called = True
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
        if stands_aside(self) or inner.is_inner(request_data):
            return None
        found = exchange.find(request_data)
        if request_data.get("mock_response") == chain.KEPT:
            return await self._attempts.serve_kept(found, request_data, response)
        if found is None:
            calling.take_row(request_data, response)
            return await self._serve_plain(request_data, response, surface_for(call_type))
        return None if found.stream else await self._bring(found, request_data, response)

    @fail_open
    async def _bring(self, found: Exchange, data: Data, response: Any) -> Any:
        return await self._attempts.judge(found, data, response)

    # -- the proxy, after the call

    @fail_open
    async def async_post_call_success_hook(
        self, data: Data, user_api_key_dict: Any, response: Any
    ) -> Any:
        """Judge what no deployment hook has seen: a response out of LiteLLM's cache."""
        found = exchange.find(data)
        if found is not None:
            show_start(found, response)
        if found is None or found.stream or found.settled:
            return None
        return await self._attempts.judge_cached(found, data, response, proxy_router())

    @fail_open
    async def async_post_call_failure_hook(
        self,
        request_data: Data,
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Note a request that ends with an error: nobody else tells its flow."""
        found = exchange.find(request_data)
        if found is not None:
            await found.fail(original_exception)

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
        if found is None or found.outcome is None or not found.plan.tags:
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
        settlement = Settlement(self, self._background, found, port, request_data, response)
        items = relay(found.plan, port, found.detector, settlement.released)
        last: Any = None
        try:
            async for last in items:
                yield last
            told = told_at_end(found, last)
            if told is not None:
                yield told
        finally:
            await items.aclose()
            settlement.ended()

    # -- the SDK

    def _note_routed(self, kwargs: Data, surface: Surface | None) -> None:
        """An SDK Router's first attempt: what the pre-call hook does in the proxy."""
        group = chain.group_of(metadata_of(kwargs))
        if not self._chains.known or group is None or not self._is_ours(kwargs, surface):
            return
        found = self._exchange(surface, kwargs, group)
        if found is not None:
            if self._chains.known.get(group) == found.plan.chain and sdk.falls_back(kwargs):
                found.rights = everybody
            bucket(kwargs)[exchange.KEY] = found

    @fail_open
    async def _serve_plain(self, data: Data, response: Any, surface: Surface | None) -> Any:
        """An ``acompletion`` without a Router: demur makes the fallback calls itself."""
        given, data = data, sdk.with_positional(data)
        if not self._is_ours(data, surface) or outcome_of(response) is not None:
            return None
        group = chain.group_of(metadata_of(data))
        found = self._exchange(surface, data, group or data.get("model"))
        if found is None:
            return None
        if group is None:
            found.rights = everybody
        logging_obj = data.get("litellm_logging_obj")
        port = CallingPort(found, response, data, partial(sdk.call, data))
        row = None if logging_obj is None else Row(logging_obj, response)
        native = None
        try:
            served = await calling.serve(port)
            native = served.completion.native
            if native is not response or served.outcome.ending == "exhausted":
                keep_out_of_the_cache(given)
        except RefusedError as error:
            keep_failure_out_of_the_log(logging_obj)
            raise chain.AttemptRefusedError(found.plan.requested.model, str(error)) from error
        finally:
            mark(self, found, data)
            # LiteLLM logs a normal response itself; others it would log untagged.
            if row is not None and (native is not response or _is_tagged(found)):
                port.rows[0] = row
                keep_out_of_the_log(logging_obj)
            self._attempts.log(port)
        show_outcome(found, native)
        return None if native is response else native

    def _is_ours(self, data: Data, surface: Surface | None) -> bool:
        """Whether a deployment hook is called for an SDK user's own chat completion."""
        if surface is None or surface.api != "chat" or calling.inside.get() or data.get("stream"):
            return False
        # What a proxy calls on its own account, as its health checks do, is nobody's request.
        if self.event_hook is not None:
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
            conversation=conversation_of(data),
            id=data.get("litellm_call_id"),
        )
        if plan is None:
            return None
        sink = partial(_write, plan, setup.sinks)
        found = Exchange(priced(plan), surface, setup.detector, sink, setup.store)
        found.marks = inner.marks_of(data)
        return found


def _is_tagged(found: Exchange) -> bool:
    return found.outcome is not None and any(tags_of(found.outcome))


def _write(plan: Plan, sinks: Sinks, outcome: Outcome) -> None:
    if plan.logs(outcome):
        sinks(outcome)

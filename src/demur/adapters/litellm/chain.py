"""The policy's fallback chain in the Router's terms: model groups and fallback entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from litellm.exceptions import ContentPolicyViolationError

from ...flow.plan import Plan
from ...vocabulary import Target

KEPT: Final = "demur: the refused response, kept"
"""The mocked answer of an attempt that calls nobody: the hook puts the kept response in its place.

As the last entry of a chain it brings the caller the original refusal where the last fallback errs
or may not be called. The Router wants a deployment even for that: of the model that refused, or of
any other in the chain. Where the last one refuses, the original is served without another hop.
"""


class AttemptRefusedError(ContentPolicyViolationError):
    """Makes the Router fall back: no retries on the model that refused, no cool-down."""

    def __init__(self, model: str, told: str = "refused") -> None:
        super().__init__(message=f"demur: {told}", model=model, llm_provider="")


def entries(
    plan: Plan, data: Mapping[str, Any], own: Sequence[Any] = ()
) -> list[str | dict[str, Any]]:
    """The fallback entries for one request.

    ``own`` are the operator's entries for the same model: they stay behind demur's, for the
    provider's genuine policy errors.
    """
    found: list[str | dict[str, Any]] = [*hops(plan, data), *own]
    retry = plan.rule.retry
    if "error" not in plan.rule.actions and (retry is None or retry.exhausted != "error"):
        allowed = _allowed(plan)
        names = dict.fromkeys(target.model for target in (plan.requested, *reversed(allowed)))
        # Where the Router has no deployment for one of them it is not to wait for it.
        kept = {"mock_response": KEPT, "num_retries": 0}
        found += [{"model": name, **kept} for name in names]
    return found


def hops(plan: Plan, data: Mapping[str, Any]) -> Iterator[str | dict[str, Any]]:
    """The chain's entries, as many as the rule allows.

    Each hop patches the original request: what an earlier hop patched is put back.
    """
    patched: set[str] = set()
    for target in _allowed(plan):
        restored = {name: data.get(name) for name in sorted(patched - target.patch.keys())}
        change = {**restored, **target.patch}
        patched |= target.patch.keys()
        yield {"model": target.model, **change} if change else target.model


def _allowed(plan: Plan) -> Sequence[Target]:
    retry = plan.rule.retry
    if retry is None or retry.attempts is None:
        return plan.chain
    return plan.chain[: retry.attempts - 1]


def groups_of(entries: Sequence[Any]) -> Iterator[str]:
    """The model groups that fallback entries name."""
    for entry in entries:
        group = entry.get("model") if isinstance(entry, Mapping) else entry
        if isinstance(group, str):
            yield group


def out_of_our_hands(data: Mapping[str, Any], fallbacks: Any) -> bool:
    """Whether the caller wants no fallbacks, brings its own, or goes past the proxy's Router.

    ``fallbacks`` are those that hold for the request, its key's and its team's among them.
    """
    if data.get("disable_fallbacks") or data.get("content_policy_fallbacks"):
        return True
    if any(data.get(name) is not None for name in ("api_key", "api_base", "user_config")):
        return True
    return any(
        isinstance(entry, str) or (isinstance(entry, Mapping) and "model" in entry)
        for entry in fallbacks or ()
    )


def stand_in(plan: Plan, group: str | None, hops: Any) -> Target | None:
    """Who answered in the requested model's place: ``group``, after so many ``hops`` of the Router.

    A group of another name says nothing by itself: aliases and routers have it as well.
    """
    if not isinstance(hops, int) or hops < 1 or group in (None, plan.requested.model):
        return None
    listed = next((target for target in plan.chain if target.model == group), None)
    return listed or Target(name=str(group), model=str(group))


def group_of(metadata: Mapping[str, Any]) -> str | None:
    """The model group an attempt went to, as the Router notes it."""
    group = metadata.get("model_group")
    return group if isinstance(group, str) else None


def asked_of_router(metadata: Mapping[str, Any]) -> str | None:
    """The model the Router was asked for at first, and looks the chain up under."""
    model = metadata.get("original_model_group")
    return model if isinstance(model, str) else None

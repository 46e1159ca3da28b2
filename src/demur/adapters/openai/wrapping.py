"""``wrap``: an OpenAI client that notices refusals, from a policy or a list of fallbacks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar

import openai

from ...detection import Detector
from ...detection.building import build_detector
from ...detection.guarded import own_detector
from ...errors import PolicyError
from ...policy import Policy, load_policy
from ...policy.schema import TargetSettings
from ...sinks import Sink, sinks_for
from ...stores import store_for
from .client import check_client, wire, wrapped_copy
from .exchange import Wiring
from .twins import plain_class, unpinned

ClientT = TypeVar("ClientT")

_NO_FIELDS = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})
_KEY_HEADERS = frozenset({"authorization", "api-key"})
_log = logging.getLogger("demur")


def wrap(
    client: ClientT,
    *,
    policy: Policy | str | PathLike[str] | Mapping[str, Any] | None = None,
    fallbacks: Sequence[str | Mapping[str, Any]] | None = None,
    detector: Detector | None = None,
    targets: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
) -> ClientT:
    """``demur.wrap``, where openai is known to be installed."""
    check_client(client)
    given = {} if targets is None else targets
    _check_targets(client, given)
    chosen = _policy(policy, fallbacks)
    _check_chains(chosen, given)
    _check_prices(chosen)
    for setting in _gateway_settings(chosen):
        _log.warning("demur: %s has no effect here: it is for LiteLLM", setting)
    keys = {name: _key(client, name, target) for name, target in chosen.targets.items()}
    own_judge = None if detector is None else own_detector(detector, chosen.detector.seconds)
    wrapped = wrapped_copy(client)
    # What takes long to make, or has to be closed, only once all else is known to be right.
    store, sink = store_for(chosen), sinks_for(chosen, sinks)
    judge = own_judge or build_detector(chosen.detector)
    made = _elsewhere(client, chosen, keys)
    own = tuple(c for name, c in made.items() if chosen.targets[name].base_url is not None)
    wire(wrapped, Wiring(chosen, judge, sink, {**made, **given}, own, store))
    return wrapped


def _policy(
    policy: Policy | str | PathLike[str] | Mapping[str, Any] | None,
    fallbacks: Sequence[str | Mapping[str, Any]] | None,
) -> Policy:
    if policy is not None and fallbacks is not None:
        raise PolicyError(
            "wrap() was given both policy and fallbacks; put the fallbacks into the policy's rules"
        )
    if policy is not None:
        return load_policy(policy)
    if fallbacks is None:
        return Policy()
    if (
        isinstance(fallbacks, str)
        or not isinstance(fallbacks, Sequence)
        or not all(isinstance(fallback, str | Mapping) for fallback in fallbacks)
    ):
        raise PolicyError(
            f"fallbacks must be a list of models or of mappings with a model, not {fallbacks!r}"
        )
    if not fallbacks:
        raise PolicyError("fallbacks is empty; name a model, or leave it out to tag and log alone")
    retry = {"fallbacks": [f if isinstance(f, str) else dict(f) for f in fallbacks]}
    rule = {"name": "fallbacks", "actions": ["tag", "log", "retry"], "retry": retry}
    return load_policy({"version": 1, "rules": [rule]})


def _elsewhere(client: Any, policy: Policy, keys: Mapping[str, str | None]) -> dict[str, Any]:
    """Clients for the policy's targets that name a host or a key of their own."""
    made: dict[str, Any] = {}
    kind = openai.AsyncOpenAI if isinstance(client, openai.AsyncOpenAI) else openai.OpenAI
    for name, target in policy.targets.items():
        key = keys[name]
        if target.base_url is not None:
            # The SDK insists on some key, also where the host wants none.
            there = kind(base_url=target.base_url, api_key=key or "none", timeout=client.timeout)
            made[name] = _stranger(there)
        elif key is not None:
            made[name] = _with_key(client, key)
    return made


def _key(client: Any, name: str, target: TargetSettings) -> str | None:
    if target.api_key_env is None:
        return None
    if target.base_url is None and getattr(client, "_provider", None) is not None:
        raise PolicyError(
            f"targets.{name}.api_key_env: the wrapped client's provider authenticates all its "
            f"calls; leave the key out, or give a client with another as wrap's targets"
        )
    key = os.environ.get(target.api_key_env)
    if not key:
        raise PolicyError(
            f"targets.{name}.api_key_env: the environment variable {target.api_key_env!r} is not "
            f"set; set it to the key for {target.base_url or target.model}"
        )
    return key


def _stranger(made: Any) -> Any:
    """A new client without what the SDK read from the environment: it is meant for OpenAI."""
    made.organization = made.project = made.admin_api_key = None
    made._custom_headers = {}
    return made


def _with_key(client: Any, key: str) -> Any:
    """A copy of the client that shares its connections and has another key."""
    copied = plain_class(type(client)).copy(unpinned(client), api_key=key)
    # The client's own headers would be preferred to the key.
    kept = {k: v for k, v in copied._custom_headers.items() if k.lower() not in _KEY_HEADERS}
    copied._custom_headers = kept
    if isinstance(copied, openai.AzureOpenAI | openai.AsyncAzureOpenAI):
        # A token would be preferred to the key.
        copied._azure_ad_token = copied._azure_ad_token_provider = None
    return copied


def _check_chains(policy: Policy, targets: Mapping[str, Any]) -> None:
    """Fallbacks must be such as this SDK can call; a client that none of them uses is told."""
    chains = {rule.name: policy.chain(rule) for rule in policy.rules}
    for name, chain in chains.items():
        for key in sorted({key for target in chain for key in target.patch} & _NO_FIELDS):
            raise PolicyError(
                f"rules: {name}: a fallback sets {key!r}, which is an argument of the SDK and no "
                f"field of the request; write a field by its own name, and set headers and "
                f"timeouts on a client given as targets={{...}}"
            )
    unused = targets.keys() - {target.name for chain in chains.values() for target in chain}
    if unused:
        names = ", ".join(sorted(map(repr, unused)))
        _log.warning("demur: no rule falls back to these of wrap's targets: %s", names)


def _gateway_settings(policy: Policy) -> Iterator[str]:
    """What a policy says that no client does."""
    for rule in policy.rules:
        if rule.retry is not None and rule.retry.provider_errors:
            yield f"rules: {rule.name}: retry.provider_errors"
        if rule.stream.tell is not None:
            yield f"rules: {rule.name}: stream.tell"
    if policy.shared is not None and policy.shared.redis_env is None:
        yield "shared without redis_env"


def _check_prices(policy: Policy) -> None:
    """A budget of cost must know what calls cost."""
    if all(budget.cost is None for budget in policy.budgets):
        return
    for target in (target for rule in policy.rules for target in policy.chain(rule)):
        if not {target.name, target.model} & policy.prices.keys():
            raise PolicyError(
                f"prices: a budget limits the cost, and {target.name!r} has no price; add "
                f"prices: {{{target.name}: {{input: …, output: …}}}}, of a million tokens"
            )


def _check_targets(client: Any, clients: Mapping[str, Any]) -> None:
    if not isinstance(clients, Mapping):
        raise PolicyError(
            f"targets must be a mapping of names to clients, not {type(clients).__name__}"
        )
    wanted = openai.AsyncOpenAI if isinstance(client, openai.AsyncOpenAI) else openai.OpenAI
    for name, other in clients.items():
        if not issubclass(type(other), wanted):
            raise PolicyError(
                f"targets[{name!r}] must be an instance of openai.{wanted.__name__}, like the "
                f"wrapped client, not {plain_class(type(other)).__qualname__}"
            )

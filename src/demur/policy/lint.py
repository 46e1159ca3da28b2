"""Legal, but suspicious: what a policy says that can hardly be meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import get_args
from urllib.parse import urlsplit

from ..vocabulary import Api, Target
from .globs import covers, is_literal
from .problem import Path, Problem
from .schema import Match, Policy, Rule, as_tuple

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def lint(policy: Policy) -> list[Problem]:
    """Warnings, in the order of the policy. A clean policy has none."""
    found = [*_detector(policy), *_targets(policy), *_standing(policy)]
    found += [*_records(policy), *_audit(policy)]
    for index, rule in enumerate(policy.rules):
        found.extend(_match(rule, ("rules", index, "match")))
        found.extend(_reachable(policy, index))
        found.extend(_retry(policy, rule, ("rules", index)))
        found.extend(_stream(rule, ("rules", index, "stream")))
    return found


def _detector(policy: Policy) -> Iterator[Problem]:
    detector = policy.detector
    for stage in ("transformer", "remote"):
        if getattr(detector, stage) is not None and stage not in detector.stages:
            yield _warning(("detector", stage), f"has no effect: add {stage} to stages")
    chosen = detector.transformer
    if chosen is not None and "transformer" in detector.stages:
        where: Path = ("detector", "transformer")
        if chosen.backend == "onnx" and chosen.device not in ("auto", "cpu"):
            yield _warning((*where, "device"), "has no effect: onnx runs on the processor")
        if chosen.backend != "onnx" and chosen.threads is not None:
            yield _warning((*where, "threads"), "has no effect: only onnx takes it")
    threshold = detector.thresholds.refusal
    if threshold in (0.0, 1.0):
        effect = "hardly any response is" if threshold else "every response is"
        message = f"with this threshold {effect} a refusal"
        yield _warning(("detector", "thresholds", "refusal"), message)
    if threshold is not None and detector.stages == ("signals",):
        message = "has no effect: signals have no score; add embedded to stages"
        yield _warning(("detector", "thresholds", "refusal"), message)


def _targets(policy: Policy) -> Iterator[Problem]:
    used = {target.name for rule in policy.rules for target in policy.chain(rule)}
    for name, target in policy.targets.items():
        if name not in used:
            close = difflib.get_close_matches(name, used, n=1)
            hint = f"; a rule falls back to {close[0]!r}, is that meant?" if close else ""
            yield _warning(("targets", name), f"no rule falls back to this target{hint}")
        url = urlsplit(target.base_url or "")
        if target.api_key_env and url.scheme == "http" and url.hostname not in _LOOPBACK:
            message = "the key would travel unencrypted; use https"
            yield _warning(("targets", name, "base_url"), message)


def _standing(policy: Policy) -> Iterator[Problem]:
    """Settings beyond one request that have nothing to work on."""
    chains = [policy.chain(rule) for rule in policy.rules]
    if policy.budgets and not any(chains):
        yield _warning(("budgets",), "has no effect: no rule retries")
    used = policy.budgets or any(map(policy.remembers, policy.rules))
    if policy.shared is not None and not used:
        message = "has no effect: no rule has a breaker or is sticky, and there are no budgets"
        yield _warning(("shared",), message)
    costs = [i for i, budget in enumerate(policy.budgets) if budget.cost is not None]
    if policy.prices and not costs:
        yield _warning(("prices",), "has no effect: no budget limits the cost")
    if costs and any(chains) and not policy.prices:
        message = "there are no prices, and only LiteLLM knows those of its models; add prices"
        yield _warning(("budgets", costs[0], "cost"), message)
    for target in dict.fromkeys(target for chain in chains for target in chain if costs):
        if policy.prices and not {target.name, target.model} & policy.prices.keys():
            message = f"{target.name!r} has no price, so calls to it cost nothing; add it"
            yield _warning(("prices",), message)


def _records(policy: Policy) -> Iterator[Problem]:
    """Places for records that nothing writes."""
    if any("log" in rule.actions for rule in policy.rules):
        return
    for key in ("audit", "metrics"):
        if getattr(policy, key):
            yield _warning((key,), "has no effect: no rule has the action log")


def _audit(policy: Policy) -> Iterator[Problem]:
    audit = policy.audit
    if audit is None or audit.path is not None:
        return
    for key in ("max_bytes", "keep"):
        if key in audit.model_fields_set:
            message = "has no effect: only files are rotated, and this is a database"
            yield _warning(("audit", key), message)


def _match(rule: Rule, where: Path) -> Iterator[Problem]:
    for key in ("model", "api", "stream"):
        if key in rule.match.model_fields_set and getattr(rule.match, key) is None:
            yield _warning(
                (*where, key), "is empty, and so matches any; remove it if that is meant"
            )


def _stream(rule: Rule, where: Path) -> Iterator[Problem]:
    if rule.stream.tell is not None and "tag" not in rule.actions:
        yield _warning((*where, "tell"), "has no effect: nothing is told without the action tag")
    if rule.match.stream is False and "stream" in rule.model_fields_set:
        message = "has no effect: the rule matches only requests that are not streamed"
        yield _warning(where, message)
    elif not {"retry", "error"} & set(rule.actions):
        for key in ("hold_back", "at_cap"):
            if key in rule.stream.model_fields_set:
                message = "has no effect: nothing is held without the action retry or error"
                yield _warning((*where, key), message)


def _reachable(policy: Policy, index: int) -> Iterator[Problem]:
    match = policy.rules[index].match
    for before, earlier in enumerate(policy.rules[:index]):
        if _catches(earlier.match, match):
            yield _warning(
                ("rules", index),
                f"can never match: rules[{before}] ({earlier.name}) matches all that it would; "
                "put this rule first, or narrow the other",
            )
            return


def _retry(policy: Policy, rule: Rule, where: Path) -> Iterator[Problem]:
    if rule.retry is None:
        return
    if "retry" not in rule.actions:
        yield _warning((*where, "retry"), "has no effect: add retry to actions")
        return
    chain, limit = policy.chain(rule), rule.retry.attempts
    distinct = list(dict.fromkeys(chain))
    for index, target in enumerate(chain):
        place = (*where, "retry", "fallbacks", index)
        if target in chain[:index]:
            yield _warning(place, f"{target.name!r} is in the chain already; it is tried once")
        elif _is_primary(target, rule.match):
            yield _warning(place, f"{target.name!r} is the model that has just refused")
    if limit is not None and limit <= len(distinct):
        left = ", ".join(target.name for target in distinct[limit - 1 :])
        yield _warning(
            (*where, "retry", "attempts"),
            f"{limit} attempts, the first call included, never reach {left}",
        )
    elif limit is not None and limit > len(distinct) + 1:
        possible = len(distinct) + 1
        message = f"there are only {possible} attempts to make: no target is tried twice"
        yield _warning((*where, "retry", "attempts"), message)


def _is_primary(target: Target, match: Match) -> bool:
    """Whether a fallback is the same call as one the rule matches by its exact name."""
    names = () if match.model is None else as_tuple(match.model)
    same = any(is_literal(name) and name == target.model for name in names)
    return same and target.base_url is None and not target.patch


def _catches(wide: Match, narrow: Match) -> bool:
    """Whether ``wide`` surely accepts every request that ``narrow`` accepts."""
    return (
        _catches_model(wide, narrow)
        and set(_apis(wide)) >= set(_apis(narrow))
        and wide.stream in (None, narrow.stream)
        and all(
            key in narrow.metadata and covers(glob, narrow.metadata[key])
            for key, glob in wide.metadata.items()
        )
    )


def _catches_model(wide: Match, narrow: Match) -> bool:
    if wide.model is None:
        return True
    globs = as_tuple(wide.model)
    needed = ("*",) if narrow.model is None else as_tuple(narrow.model)
    return all(any(covers(glob, name) for glob in globs) for name in needed)


def _apis(match: Match) -> tuple[Api, ...]:
    return get_args(Api) if match.api is None else as_tuple(match.api)


def _warning(path: Path, message: str) -> Problem:
    return Problem("policy", path, message)

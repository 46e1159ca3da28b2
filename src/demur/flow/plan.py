"""What a policy means for one request: the rule that matched, and what its flow needs of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from ..policy.schema import Policy, Rule
from ..vocabulary import Api, Outcome, Target
from .cells import Cells, cells_of


@dataclass(frozen=True, slots=True)
class Plan:
    """One request's rule, fallback chain and settings. ``choices`` is the request's ``n``.

    ``id``, ``time``, ``policy`` and ``metadata`` are the outcome's; ``keeps_content`` says whether
    its attempts keep what was judged. ``cells`` are those of the state shared with other requests.
    """

    api: Api
    requested: Target
    rule: Rule
    chain: tuple[Target, ...] = ()
    shadow: bool = False
    on_error: Literal["pass", "refuse"] = "pass"
    choices: int = 1
    policy: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    keeps_content: bool = False
    cells: Cells | None = None
    id: str | None = field(default=None, compare=False)
    time: float | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        policy: Policy,
        *,
        api: Api,
        model: str,
        stream: bool,
        metadata: Mapping[str, Any],
        choices: int = 1,
        conversation: str | None = None,
        elsewhere: Collection[str] = (),
        id: str | None = None,  # noqa: A002 - the outcome's word
    ) -> Plan | None:
        """The plan for a request, or ``None`` where no rule matches: then it passes untouched.

        ``conversation`` is the id that the request's header gives its conversation; ``elsewhere``
        names the targets that have clients of their own.
        """
        rule = policy.rule_for(model=model, api=api, stream=stream, metadata=metadata)
        if rule is None:
            return None
        chain = policy.chain(rule)
        if elsewhere:
            chain = tuple(replace(t, elsewhere=t.name in elsewhere) for t in chain)
        shadow = policy.shadows(rule)
        return cls(
            api=api,
            requested=Target(name=model, model=model),
            rule=rule,
            chain=chain,
            shadow=shadow,
            on_error=policy.detector.on_error,
            choices=choices,
            policy=policy.fingerprint,
            metadata=policy.facts(metadata),
            keeps_content=policy.audit is not None and policy.audit.content != "none",
            cells=cells_of(
                policy,
                rule,
                model=model,
                shadow=shadow,
                metadata=metadata,
                conversation=conversation,
            ),
            id=id or uuid4().hex,
            time=time.time(),
        )

    @property
    def models(self) -> frozenset[str]:
        """All that may be asked for a response: the requested one and the chain's."""
        return frozenset(target.model for target in (self.requested, *self.chain))

    @property
    def tags(self) -> bool:
        """Whether callers and the gateway's log are shown what was found."""
        return "tag" in self.rule.actions

    def logs(self, outcome: Outcome) -> bool:
        """Whether a record goes to the sinks."""
        return outcome.finished and "log" in self.rule.actions

    @property
    def acts(self) -> bool:
        """Whether the rule, enforced, could keep the first response from the caller."""
        return bool(self.chain) or "error" in self.rule.actions

    @property
    def enforced(self) -> bool:
        """Whether the rule acts and is not in shadow mode."""
        return self.acts and not self.shadow

"""The policy as frozen models: what a YAML file may say, and what it means by default.

Unknown keys are errors. Nothing here reads files: see ``loader``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)
from typing_extensions import Self

from ..vocabulary import Api, Target
from .constraints import (
    distinct,
    dsn_without_password,
    env_name,
    http_url,
    no_bool,
    no_shorter,
    one_place,
    patch_keys,
    rule_actions,
    unique_names,
)
from .detector_settings import Batching as Batching
from .detector_settings import DetectorSettings as DetectorSettings
from .detector_settings import RemoteSettings as RemoteSettings
from .detector_settings import Stage as Stage
from .detector_settings import Thresholds as Thresholds
from .detector_settings import TransformerSettings as TransformerSettings
from .detector_settings import Windows as Windows
from .section import Count as Count
from .section import Flag as Flag
from .section import Name as Name
from .section import Seconds as Seconds
from .section import Section as Section
from .standing_settings import Breaker, Budget, Price, Shared, Sticky

Action = Literal["tag", "log", "retry", "error"]
TriggerLabel = Literal["refusal", "partial"]
Exhausted = Literal["first", "last", "error"]
Metrics = Literal["prometheus", "opentelemetry"]


class TargetSettings(Section):
    """A fallback that lives elsewhere than the wrapped client."""

    model: Name = Field(description="The model as it is called there.")
    base_url: Annotated[Name, AfterValidator(http_url)] | None = Field(
        default=None,
        description="Where its API is. Default: where the wrapped client or gateway is.",
    )
    api_key_env: Annotated[Name, AfterValidator(env_name)] | None = Field(
        default=None, description="Environment variable that holds the key; never the key itself."
    )


class Match(Section):
    """All that is given must hold. Globs are case-sensitive; a list means any of them."""

    model: Name | Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        default=None, description="As the caller asks for it."
    )
    api: Api | Annotated[tuple[Api, ...], Field(min_length=1)] | None = Field(
        default=None, description="The API the caller speaks."
    )
    stream: Flag | None = Field(default=None, description="Only streams, or only whole responses.")
    metadata: Mapping[str, str] = Field(
        default_factory=dict, description="Keys the request's metadata must have, and their values."
    )

    def accepts(self, *, model: str, api: Api, stream: bool, metadata: Mapping[str, Any]) -> bool:
        return self.mismatch(model=model, api=api, stream=stream, metadata=metadata) is None

    def mismatch(
        self, *, model: str, api: Api, stream: bool, metadata: Mapping[str, Any]
    ) -> str | None:
        """The first condition that does not hold, in words; ``None`` where all do."""
        globs = () if self.model is None else as_tuple(self.model)
        if globs and not any(fnmatch.fnmatchcase(model, glob) for glob in globs):
            return f"the model is not {' or '.join(globs)}"
        if self.api is not None and api not in as_tuple(self.api):
            return f"the API is not {' or '.join(as_tuple(self.api))}"
        if self.stream is not None and stream is not self.stream:
            return "it is streamed" if stream else "it is not streamed"
        for key, glob in self.metadata.items():
            if key not in metadata:
                return f"it has no metadata {key}"
            if not fnmatch.fnmatchcase(str(metadata[key]), glob):
                return f"its metadata {key} is not {glob}"
        return None


class Patch(BaseModel):
    """A fallback as a change to the original request: ``{model: third, temperature: 0.2}``."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]

    model: Name

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        patch_keys(self.__pydantic_extra__)
        return self


class Retry(Section):
    fallbacks: tuple[Name | Patch, ...] = Field(
        min_length=1, description="In order: a model, the name of a target, or a patch."
    )
    exhausted: Exhausted = Field(
        default="first", description="What the caller gets when every fallback refused or failed."
    )
    attempts: Annotated[Count, Field(ge=2)] | None = Field(
        default=None, description="Most calls for one request, the first included."
    )
    seconds: Seconds | None = Field(
        default=30.0, description="No fallback is started later than this after the request began."
    )
    provider_errors: Flag = Field(
        default=False,
        description="LiteLLM's Router only, in a proxy or given as router= to the guardrail: fall "
        "back, too, where the provider's policy made it fail.",
    )
    breaker: Breaker | None = Field(
        default=None, description="Start at a fallback while a model refuses too often."
    )
    sticky: Sticky | None = Field(
        default=None, description="Keep a conversation at the model that answered."
    )


class HoldBack(Section):
    chars: Annotated[Count, Field(ge=1)] = Field(
        default=160, description="Most visible characters held of what is not suspect."
    )
    suspect_chars: Annotated[Count, Field(ge=1)] | None = Field(
        default=None,
        description="Most held of what at chars is unsure, with a score above the threshold. "
        "Default: two and a half times chars.",
    )
    seconds: Seconds | None = Field(
        default=1.5, description="Longest hold after the first visible text arrived."
    )
    reasoning: Literal["hold", "release"] = Field(
        default="hold",
        description="release: a stream that starts with reasoning is passed at once.",
    )

    @property
    def longest(self) -> int:
        """Most visible characters held of any choice."""
        return self.chars * 5 // 2 if self.suspect_chars is None else self.suspect_chars

    @model_validator(mode="after")
    def _check_caps(self) -> Self:
        no_shorter(self.chars, self.suspect_chars)
        return self


class StreamSettings(Section):
    hold_back: HoldBack = HoldBack()
    at_cap: Literal["release", "judge"] = Field(
        default="release",
        description="At a cap and still unsure: release, or judge what is held as final.",
    )
    tell: Literal["comment", "chunk"] | None = Field(
        default=None,
        description="LiteLLM proxy only: the verdict at a stream's end, as a comment after its "
        "events, or in a last chunk, which only chat has.",
    )


class Rule(Section):
    name: Name = Field(description="What records and headers call the rule.")
    match: Match = Field(default=Match(), description="Default: every request.")
    on: Annotated[tuple[TriggerLabel, ...], AfterValidator(distinct)] = Field(
        default=("refusal",), min_length=1, description="The labels that trigger the actions."
    )
    actions: Annotated[tuple[Action, ...], AfterValidator(distinct)] = Field(
        default=("tag", "log"), description="An empty list exempts what the rule matches."
    )
    retry: Retry | None = Field(default=None, description="What the action retry does.")
    stream: StreamSettings = StreamSettings()
    mode: Literal["enforce", "shadow"] | None = Field(
        default=None, description="Default: the policy's."
    )

    @model_validator(mode="after")
    def _check_actions(self) -> Self:
        rule_actions(self.actions, retries=self.retry is not None)
        return self


class Audit(Section):
    """Where a record of every judged request is kept: a file, or a database."""

    path: Name | None = Field(default=None, description="A file of JSON lines.")
    max_bytes: Annotated[Count, Field(ge=1)] = Field(
        default=100_000_000, description="Beyond this size the file is rotated: path.1, path.2, …"
    )
    keep: Annotated[Count, Field(ge=1)] = Field(
        default=10, description="Rotated files kept; the oldest is deleted."
    )
    dsn: Annotated[Name, AfterValidator(dsn_without_password)] | None = Field(
        default=None, description="A database instead, as SQLAlchemy's URL: sqlite:///audit.db"
    )
    dsn_env: Annotated[Name, AfterValidator(env_name)] | None = Field(
        default=None, description="Environment variable that holds the URL, password and all."
    )
    content: Literal["none", "redacted", "full"] = Field(
        default="none",
        description="redacted: a short masked passage of each response; full: all that was judged.",
    )
    queue: Annotated[Count, Field(ge=1)] = Field(
        default=10_000, description="Records that may wait to be written; beyond, they are dropped."
    )

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        one_place(self.path, self.dsn, self.dsn_env)
        return self


class Policy(Section):
    """What a policy file says. In code, mappings and lists go through ``load_policy``, which names
    what is wrong in them; ``Policy(...)`` takes the sections themselves.
    """

    version: Annotated[Literal[1], BeforeValidator(no_bool)] = Field(
        default=1, description="The version of this format."
    )
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: decide and record, change nothing."
    )
    detector: DetectorSettings = DetectorSettings()
    targets: Mapping[Name, TargetSettings] = Field(
        default_factory=dict, description="Fallbacks that live elsewhere, by the name rules use."
    )
    rules: Annotated[tuple[Rule, ...], AfterValidator(unique_names)] = Field(
        default=(Rule(name="default"),), min_length=1, description="First match wins."
    )
    audit: Audit | None = None
    metrics: Annotated[tuple[Metrics, ...], AfterValidator(distinct)] = Field(
        default=(), description="prometheus: counters; opentelemetry: an event on the active span."
    )
    budgets: tuple[Budget, ...] = Field(
        default=(), description="What retries may add, for all rules together; each must allow it."
    )
    prices: Mapping[Name, Price] = Field(
        default_factory=dict,
        description="By model, for budgets of cost; LiteLLM knows those of its models.",
    )
    shared: Shared | None = Field(
        default=None,
        description="How replicas share state. Default: through LiteLLM's Redis in a proxy that "
        "has one, else not at all.",
    )

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name what the policy says, defaults included."""
        text = json.dumps(_told(self.model_dump(mode="json")), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def facts(self, metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Of a request's metadata, what the rules ask for."""
        return tuple((key, str(metadata[key])) for key in self._asked_for if key in metadata)

    @cached_property
    def _asked_for(self) -> tuple[str, ...]:
        return tuple(sorted({key for rule in self.rules for key in rule.match.metadata}))

    def rule_for(
        self, *, model: str, api: Api, stream: bool, metadata: Mapping[str, Any]
    ) -> Rule | None:
        """The first rule that matches, or ``None``: then the call passes untouched."""
        for rule in self.rules:
            if rule.match.accepts(model=model, api=api, stream=stream, metadata=metadata):
                return rule
        return None

    def chain(self, rule: Rule) -> tuple[Target, ...]:
        """The rule's fallback targets in order; empty where it does not retry."""
        if rule.retry is None or "retry" not in rule.actions:
            return ()
        return tuple(self._target(fallback) for fallback in rule.retry.fallbacks)

    def remembers(self, rule: Rule) -> bool:
        """Whether a request under the rule has to do with others."""
        retry = rule.retry
        asks = retry is not None and (retry.breaker or retry.sticky or self.budgets)
        return bool(asks and self.chain(rule))

    def shadows(self, rule: Rule) -> bool:
        return (rule.mode or self.mode) == "shadow"

    def _target(self, fallback: str | Patch) -> Target:
        model, patch = (
            (fallback, {})
            if isinstance(fallback, str)
            else (fallback.model, dict(fallback.__pydantic_extra__))
        )
        elsewhere = self.targets.get(model)
        if elsewhere is None:
            return Target(name=model, model=model, patch=patch)
        return Target(
            name=model,
            model=elsewhere.model,
            patch=patch,
            base_url=elsewhere.base_url,
            api_key_env=elsewhere.api_key_env,
        )


_ADDED = frozenset(
    {"breaker", "sticky", "budgets", "prices", "shared", "tell", "sure", "suspect_chars"}
)


def _told(said: Any) -> Any:
    """Without the sections that the format has got since, where they are not used."""
    if isinstance(said, dict):
        return {k: _told(v) for k, v in said.items() if v or k not in _ADDED}
    return [_told(item) for item in said] if isinstance(said, list) else said


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One or many, as many."""
    return value if isinstance(value, tuple) else (value,)

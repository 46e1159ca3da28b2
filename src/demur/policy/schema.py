"""The policy as frozen models: what a YAML file may say, and what it means by default.

Unknown keys are errors. Nothing here reads files: see ``loader``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..vocabulary import Api, Target

Action = Literal["tag", "log", "retry", "error"]
TriggerLabel = Literal["refusal", "partial"]
Stage = Literal["signals", "embedded", "transformer"]
Exhausted = Literal["first", "last", "error"]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every part of a policy: frozen, and strict about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(Section):
    refusal: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="Score at or above which a response is a refusal. Default: the model's own."
    )


class TransformerSettings(Section):
    """An optional second opinion: any Hugging Face sequence classifier."""

    model: Name = Field(
        "ProtectAI/distilroberta-base-rejection-v1", description="Hub id or folder."
    )
    revision: str | None = Field(None, description="Hub revision to pin.")
    backend: Literal["torch"] = "torch"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class DetectorSettings(Section):
    stages: tuple[Stage, ...] = Field(
        ("signals", "embedded"), min_length=1, description="Cheapest first; stops when sure."
    )
    thresholds: Thresholds = Thresholds()
    on_error: Literal["pass", "refuse"] = Field(
        "pass", description="What a response counts as when no detector can answer."
    )
    seconds: Annotated[float, Field(gt=0.0)] = Field(
        2.0, description="Longest wait for one verdict of a stage that may block."
    )
    transformer: TransformerSettings | None = None


class TargetSettings(Section):
    """A fallback that lives elsewhere than the wrapped client."""

    model: Name
    base_url: Name | None = None
    api_key_env: Name | None = Field(None, description="Environment variable that holds the key.")


class Match(Section):
    """All that is given must hold. Globs are case-sensitive; a list means any of them."""

    model: Name | tuple[Name, ...] | None = None
    api: Api | tuple[Api, ...] | None = None
    stream: bool | None = None
    metadata: Mapping[str, str] = Field(default_factory=dict)

    def accepts(self, *, model: str, api: Api, stream: bool, metadata: Mapping[str, Any]) -> bool:
        if self.model is not None and not any(
            fnmatch.fnmatchcase(model, glob) for glob in as_tuple(self.model)
        ):
            return False
        if self.api is not None and api not in as_tuple(self.api):
            return False
        if self.stream is not None and stream is not self.stream:
            return False
        return all(
            key in metadata and fnmatch.fnmatchcase(str(metadata[key]), glob)
            for key, glob in self.metadata.items()
        )


class Patch(BaseModel):
    """A fallback as a change to the original request: ``{model: third, temperature: 0.2}``."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    model: Name


class Retry(Section):
    fallbacks: tuple[Name | Patch, ...] = Field(
        min_length=1, description="In order: a model, the name of a target, or a patch."
    )
    exhausted: Exhausted = Field(
        "first", description="What the caller gets when every fallback refused or failed."
    )
    attempts: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Most calls for one request, the first included."
    )
    seconds: Annotated[float, Field(gt=0.0)] | None = Field(
        30.0, description="No fallback is started later than this after the request began."
    )


class HoldBack(Section):
    chars: Annotated[int, Field(ge=1)] = Field(160, description="Most visible characters held.")
    seconds: Annotated[float, Field(gt=0.0)] | None = Field(
        1.5, description="Longest hold after the first visible text arrived."
    )
    reasoning: Literal["hold", "release"] = Field(
        "hold", description="release: a stream that starts with reasoning is passed at once."
    )


class StreamSettings(Section):
    hold_back: HoldBack = HoldBack()
    at_cap: Literal["release", "judge"] = Field(
        "release", description="At a cap and still unsure: release, or judge what is held as final."
    )


class Rule(Section):
    name: Name
    match: Match = Match()
    on: tuple[TriggerLabel, ...] = Field(("refusal",), min_length=1)
    actions: tuple[Action, ...] = ("tag", "log")
    retry: Retry | None = None
    stream: StreamSettings = StreamSettings()
    mode: Literal["enforce", "shadow"] | None = Field(None, description="Default: the policy's.")


class Audit(Section):
    path: Name
    content: Literal["none"] = "none"


class Policy(Section):
    version: Literal[1] = 1
    mode: Literal["enforce", "shadow"] = "enforce"
    detector: DetectorSettings = DetectorSettings()
    targets: Mapping[str, TargetSettings] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = Field(
        (Rule(name="default"),), min_length=1, description="First match wins."
    )
    audit: Audit | None = None

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


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One or many, as many."""
    return value if isinstance(value, tuple) else (value,)

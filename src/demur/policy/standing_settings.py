"""What a policy says beyond one request: breaker, stickiness, budgets, shared state."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, Strict, model_validator
from typing_extensions import Self

from .constraints import budget_limits, env_name
from .section import Count, Name, Seconds, Section

CALLER_KEYS = ("user_api_key_hash", "user_api_key")
"""Where LiteLLM's metadata names the key a request came with, hashed."""


class Breaker(Section):
    """When a model refuses too often, new requests start at a fallback for a while."""

    rate: Annotated[float, Strict(), Field(gt=0.0, le=1.0)] = Field(
        default=0.5, description="Refusals among the judged requests that open it."
    )
    window: Seconds = Field(default=60.0, description="Over how many seconds they are counted.")
    least: Annotated[Count, Field(ge=1)] = Field(
        default=20, description="Fewest judged requests that say anything."
    )
    pause: Seconds = Field(
        default=120.0, description="Seconds until one request tries the model again."
    )


class Sticky(Section):
    """After a refusal a conversation stays with the model that answered."""

    seconds: Seconds = Field(default=900.0, description="How long, from the refusal on.")
    by: Name = Field(
        default="conversation_id",
        description="Key of the request's metadata that names the conversation; the header "
        "x-demur-conversation does so, too.",
    )


class Budget(Section):
    """The most that retries may add; beyond it refusals are only tagged."""

    calls: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="Most calls added."
    )
    seconds: Annotated[float, Strict(), Field(gt=0.0)] | None = Field(
        default=None, description="Most seconds that callers wait for added calls, together."
    )
    cost: Annotated[float, Strict(), Field(gt=0.0)] | None = Field(
        default=None, description="Most cost of added calls, in the unit of prices."
    )
    per: Seconds = Field(default=60.0, description="Over how many seconds.")
    by: Name = Field(
        default="all",
        description="For all requests together, for each LiteLLM key, or for each value of a key "
        "of the request's metadata.",
    )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        budget_limits(self.calls, self.seconds, self.cost)
        return self


class Price(Section):
    input: Annotated[float, Strict(), Field(ge=0.0)] = Field(
        default=0.0, description="Of a million tokens."
    )
    output: Annotated[float, Strict(), Field(ge=0.0)] = Field(
        default=0.0, description="Of a million tokens."
    )


class Shared(Section):
    """A Redis where replicas keep what they know in common."""

    redis_env: Annotated[Name, AfterValidator(env_name)] | None = Field(
        default=None,
        description="Environment variable that holds its URL, password and all. Default: LiteLLM's "
        "own Redis, in a proxy that has one.",
    )
    prefix: Name = Field(
        default="demur", description="What keys begin with: policies that differ need their own."
    )
    seconds: Seconds = Field(
        default=0.05, description="Longest wait for it; a request then goes on without it."
    )

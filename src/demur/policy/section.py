"""What every part of a policy is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[float, Strict(), Field(gt=0.0, le=86_400.0)]
Count = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]


class Section(BaseModel):
    """Base of every part of a policy: frozen, and strict about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

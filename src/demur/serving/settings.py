"""What a served detector is told: which one, and how many of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from ..errors import InputError
from ..policy import load_policy
from ..policy.schema import DetectorSettings, Thresholds, TransformerSettings


class ServeSettings(BaseModel):
    """Options of ``demur serve``, and arguments of ``serve run demur.serving:app``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Path | None = Field(default=None, description="Take its detector settings.")
    model: str | None = Field(
        default=None, description="A Hugging Face classifier: folder or hub id."
    )
    backend: Literal["torch", "onnx"] | None = Field(
        default=None, description="Of the model; default: the policy's, or torch."
    )
    threshold: float | None = Field(
        default=None, ge=0.0, le=1.0, description="The detector's; clients see it as 0.5."
    )
    name: str = Field(
        default="demur", pattern=r"^[\w.-]+$", description="The model's name for KServe clients."
    )
    replicas: int = Field(default=1, ge=1, description="Processes that hold the model, at first.")
    most_replicas: int | None = Field(
        default=None, ge=1, description="Scale up to so many under load; default: do not scale."
    )
    in_flight: int = Field(
        default=32, ge=1, description="Requests in flight that a replica should have, for scaling."
    )
    cpus: float = Field(default=1.0, ge=0.0, description="Processor cores of a replica.")
    gpus: float = Field(default=0.0, ge=0.0, description="CUDA devices of a replica.")

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise ValueError("most_replicas is less than replicas")
        return self

    def detector(self) -> DetectorSettings:
        """The stages to serve. Paths of models must hold on every machine of a cluster.

        Raises ``InputError`` where ``backend`` does not go with the policy's precision.
        """
        own = DetectorSettings() if self.policy is None else load_policy(self.policy).detector
        changes: dict[str, Any] = {}
        if self.threshold is not None:
            changes["thresholds"] = Thresholds(refusal=self.threshold)
        if self.model is not None or self.backend is not None:
            transformer = (own.transformer or TransformerSettings()).model_dump()
            if self.model is not None:
                transformer |= {"model": self.model, "revision": None}
            if self.backend is not None:
                transformer["backend"] = self.backend
            try:
                changes["transformer"] = TransformerSettings.model_validate(transformer)
            except ValidationError as error:
                told = f"{self.policy} with backend {self.backend}: {error.errors()[0]['msg']}"
                raise InputError(told) from error
        if self.model is not None:
            changes["stages"] = ("transformer",)
        return own.model_copy(update=changes)

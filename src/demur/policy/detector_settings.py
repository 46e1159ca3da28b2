"""The part of a policy that says who judges, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, model_validator
from typing_extensions import Self

from .constraints import distinct, env_name, http_url, model_named, precision_of, remote_named
from .section import Count, Name, Seconds, Section

Stage = Literal["signals", "embedded", "transformer", "remote"]
Windows = Literal["ends", "all"]
_WINDOWS = (
    "Of a text too long for one window: head and tail, or all. A stream keeps at least 8192 "
    "characters at each end, and what is between them is never judged."
)


class Thresholds(Section):
    refusal: Annotated[float, Strict(), Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Score at or above which a response is a refusal. Default: the model's own.",
    )


class Sure(Section):
    """How far from its threshold a score must be, as a share of how far it could be."""

    normal: Annotated[float, Strict(), Field(ge=0.0, le=1.0)] = Field(
        default=0.7, description="For a normal verdict that no further stage is asked about."
    )
    refusal: Annotated[float, Strict(), Field(ge=0.0, le=1.0)] = Field(
        default=0.7, description="For a refusal that no further stage is asked about."
    )


class Batching(Section):
    """How callers who ask at the same time are served together."""

    size: Annotated[Count, Field(ge=1, le=1024)] = Field(
        default=32, description="Most texts scored together; remote: most windows in one request."
    )
    milliseconds: Annotated[float, Strict(), Field(ge=0.0, le=1000.0)] = Field(
        default=2.0, description="Longest wait for more of them, under load only."
    )
    queue: Annotated[Count, Field(ge=1)] = Field(
        default=256, description="Most texts that wait; beyond, the stage before answers."
    )
    cache: Annotated[Count, Field(ge=0)] = Field(
        default=10_000, description="Scores of recent texts kept, so that none is scored twice."
    )


class TransformerSettings(Section):
    """An optional second opinion: any Hugging Face sequence classifier."""

    model: Name = Field(
        default="ProtectAI/distilroberta-base-rejection-v1",
        description="Hub id or folder; for onnx the folder that demur export wrote.",
    )
    revision: str | None = Field(default=None, description="Hub revision to pin.")
    backend: Literal["torch", "onnx"] = "torch"
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="torch only; onnx runs on the processor."
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="auto: torch takes bfloat16 on cuda, onnx int8 where it was exported.",
    )
    threads: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="Processor threads of one pass; onnx only."
    )
    windows: Windows = Field(default="ends", description=_WINDOWS)
    batching: Batching = Batching()
    refusal_label: Name | None = Field(
        default=None, description="The label that means refusal, where its name does not say so."
    )

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        precision_of(self.backend, self.precision)
        return self


class RemoteSettings(Section):
    """A classifier that is served elsewhere."""

    url: Annotated[Name, AfterValidator(http_url)] = Field(description="Where the server is.")
    protocol: Literal["tei", "vllm", "kserve"] = Field(
        description="Text Embeddings Inference /predict, vLLM /classify, or KServe v2 (Triton, "
        "MLServer)."
    )
    model: Name | None = Field(
        default=None, description="The model's name there; kserve needs it, vllm may."
    )
    labels: tuple[Name, ...] = Field(
        default=(), description="The labels in the model's order, where the server gives numbers."
    )
    refusal_label: Name | None = Field(
        default=None, description="The label that means refusal, where its name does not say so."
    )
    input: Name = Field(default="text", description="kserve: the name of the input tensor.")
    api_key_env: Annotated[Name, AfterValidator(env_name)] | None = Field(
        default=None, description="Environment variable that holds the key; never the key itself."
    )
    connections: Annotated[Count, Field(ge=1, le=256)] = Field(
        default=4, description="Most requests to the server at the same time."
    )
    chars: Annotated[Count, Field(ge=64)] = Field(
        default=1500, description="Characters of one window; the server should read that much."
    )
    windows: Windows = Field(default="ends", description=_WINDOWS)
    batching: Batching = Batching()

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        model_named(self.protocol, self.model)
        return self


class DetectorSettings(Section):
    stages: Annotated[tuple[Stage, ...], AfterValidator(distinct)] = Field(
        default=("signals", "embedded"),
        min_length=1,
        description="Cheapest first; stops when sure.",
    )
    thresholds: Thresholds = Thresholds()
    sure: Sure | None = Field(
        default=None,
        description="When a stage decides alone; demur eval --cascade finds it. Default: 0.7 each.",
    )
    on_error: Literal["pass", "refuse"] = Field(
        default="pass", description="What a response counts as when no detector can answer."
    )
    seconds: Seconds = Field(
        default=2.0, description="Longest wait for one verdict of a stage that may block."
    )
    transformer: TransformerSettings | None = None
    remote: RemoteSettings | None = None

    @model_validator(mode="after")
    def _check_remote(self) -> Self:
        remote_named(self.stages, is_set=self.remote is not None)
        return self

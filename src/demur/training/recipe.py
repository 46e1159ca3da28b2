"""The recipe of a model: a YAML file as frozen settings; unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseModel):
    """Base of every part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lean(Settings):
    """Partial rows of a source that lean to ``label`` clearly enough to be trained on as such."""

    source: str
    label: Literal[0, 1]
    weight: Annotated[float, Field(gt=0.0)] = 0.5


class DataSettings(Settings):
    """File names within the data folder."""

    train: tuple[str, ...] = ("train.jsonl.gz",)
    develop: tuple[str, ...] = ("dev.jsonl.gz",)
    partial: tuple[str, ...] = ("partial.jsonl.gz",)
    leaning: tuple[Lean, ...] = ()


class FeatureSettings(Settings):
    minimum: Annotated[float, Field(gt=0, description="Fewest texts of a feature.")] = 3.0
    runs: Annotated[int, Field(description="Word runs, by how much they tell of the label.")] = (
        70_000
    )
    frequent: Annotated[int, Field(description="Word runs, by frequency.")] = 35_000
    pieces: Annotated[int, Field(description="Character n-grams.")] = 40_000


class NetworkSettings(Settings):
    width: Annotated[int, Field(description="Size of an embedding.")] = 32
    filters: Annotated[int, Field(description="Filters of the convolution.")] = 64
    hidden: Annotated[int, Field(description="Size of a sentence's vector.")] = 48
    dropout: Share = 0.2


class FitSettings(Settings):
    epochs: Annotated[int, Field(ge=1)] = 4
    batch: Annotated[int, Field(ge=1)] = 48
    rate: Annotated[float, Field(gt=0.0)] = 0.003
    embedding_rate: Annotated[float, Field(gt=0.0)] = 0.003
    forget: Annotated[Share, Field(description="Share of features left out at random.")] = 0.15
    prefixes: Annotated[Share, Field(description="Share of texts cut to a prefix.")] = 0.5
    smoothing: Annotated[Share, Field(description="Label smoothing.")] = 0.02
    texts: Annotated[int | None, Field(description="Rows drawn an epoch; default: all.")] = None


class EncoderSettings(Settings):
    """The second opinion: the lowest layers of a pretrained encoder, trained on."""

    depth: Annotated[int, Field(ge=1, description="Layers kept, the lowest first.")] = 6
    pieces: Annotated[int, Field(ge=100, description="Pieces kept of its vocabulary.")] = 22_000
    head: Annotated[int, Field(ge=8, le=400, description="Pieces read of a text's beginning.")] = 96
    tail: Annotated[int, Field(ge=0, le=100, description="And, of a longer text, of its end.")] = 32
    texts: Annotated[int, Field(ge=1, description="Texts seen in all.")] = 48_000
    batch: Annotated[int, Field(ge=1)] = 24
    rate: Annotated[float, Field(gt=0.0)] = 2e-4
    prefixes: Share = 0.3
    dropout: Share = 0.1
    composed: Annotated[Share, Field(description="Share of fresh texts.")] = 0.4
    unsure: Annotated[Share, Field(description="Share of normal answers it may be asked of.")] = (
        0.05
    )
    high: Annotated[Share, Field(description="Network's score from which it is not asked.")] = 0.98


class AugmentSettings(Settings):
    templates: Annotated[int, Field(ge=0, description="Fresh texts an epoch, beside the data.")] = 0
    written: Annotated[Share, Field(description="Share of them written by hand, not composed.")] = (
        0.0
    )
    disguise: Annotated[Share, Field(description="Share of texts whose form is changed.")] = 0.25


class ThresholdSettings(Settings):
    """What the thresholds must hold on the development rows."""

    false_positives: Annotated[Share, Field(description="Most normal ones refused.")] = 0.004
    false_stops: Annotated[
        float, Field(gt=0, le=1, description="Most normal ones stopped early.")
    ] = 0.002
    held_median: Annotated[float, Field(gt=0, description="Most tokens held, in the median.")] = 12
    held_p95: Annotated[float, Field(gt=0, description="And at the 95th percentile.")] = 40
    least_bytes: Annotated[int, Field(ge=0, description="None is decided before.")] = 32
    kind: Annotated[Share, Field(description="Least probability of a kind that is named.")] = 0.6


class Recipe(Settings):
    """How to build a model named ``<name>_v<version>``."""

    kind: Literal["embedded"] = "embedded"
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "embedded"
    version: Annotated[int, Field(ge=1)] = 1
    seed: int = 20
    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    network: NetworkSettings = NetworkSettings()
    fit: FitSettings = FitSettings()
    augment: AugmentSettings = AugmentSettings()
    encoder: EncoderSettings | None = None
    thresholds: ThresholdSettings = ThresholdSettings()

    @property
    def folder(self) -> str:
        return f"{self.name}_v{self.version}"


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; ``InputError`` names the file, the key and what it may be."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    try:
        return Recipe.model_validate({} if settings is None else settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise InputError(f"{path}: {problems}") from error

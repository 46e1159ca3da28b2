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


class DataSettings(Settings):
    """File names within the data folder."""

    train: tuple[str, ...] = ("train.jsonl.gz",)
    develop: tuple[str, ...] = ("dev.jsonl.gz",)
    partial: tuple[str, ...] = ("partial.jsonl.gz",)


class FeatureSettings(Settings):
    minimum: Annotated[float, Field(gt=0)] = Field(3.0, description="Fewest texts of a feature.")
    runs: int = Field(110_000, description="Word runs, by how much they tell of the label.")
    frequent: int = Field(60_000, description="Word runs, by frequency.")
    pieces: int = Field(60_000, description="Character n-grams.")


class NetworkSettings(Settings):
    width: int = Field(32, description="Size of an embedding.")
    filters: int = Field(64, description="Filters of the convolution.")
    hidden: int = Field(48, description="Size of a sentence's vector.")
    dropout: Share = 0.2


class FitSettings(Settings):
    epochs: Annotated[int, Field(ge=1)] = 4
    batch: Annotated[int, Field(ge=1)] = 48
    rate: Annotated[float, Field(gt=0.0)] = 0.003
    embedding_rate: Annotated[float, Field(gt=0.0)] = 0.003
    forget: Share = Field(0.15, description="Share of features left out at random.")
    prefixes: Share = Field(0.5, description="Share of texts that are cut to a prefix.")
    smoothing: Share = Field(0.02, description="Label smoothing.")
    texts: int | None = Field(None, description="Texts drawn an epoch; default: all rows.")


class AugmentSettings(Settings):
    templates: Annotated[int, Field(ge=0)] = Field(0, description="Composed texts an epoch.")
    disguise: Share = Field(0.25, description="Share of texts whose form is changed.")


class ThresholdSettings(Settings):
    """What the thresholds must hold on the development rows."""

    false_positives: Share = Field(0.005, description="Most normal answers called refusals.")
    leak: Share = Field(0.03, description="Most refusals released from their prefix.")
    false_stops: Share = Field(0.001, description="Most normal answers stopped at a prefix.")


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

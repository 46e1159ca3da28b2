"""The recipe of a model: a YAML file as frozen settings; unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError
from ..policy.document import from_file

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
    teachers: Annotated[
        int,
        Field(ge=0, description="Networks of the next seeds that teach it, with the encoder."),
    ] = 0


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


class RefusalSettings(Settings):
    """What the threshold of whole texts must hold on the development rows."""

    false_positives: Annotated[Share, Field(description="Most normal ones refused.")] = 0.004


class ThresholdSettings(RefusalSettings):
    """And what those of streams must."""

    hard_false_positives: Annotated[
        Share, Field(description="Most of the normal hard cases refused.")
    ] = 1.0
    false_stops: Annotated[
        float, Field(gt=0, le=1, description="Most normal ones stopped early.")
    ] = 0.002
    held_median: Annotated[float, Field(gt=0, description="Most tokens held, in the median.")] = 12
    held_p95: Annotated[float, Field(gt=0, description="And at the 95th percentile.")] = 40
    least_bytes: Annotated[int, Field(ge=0, description="None is decided before.")] = 32
    kind: Annotated[Share, Field(description="Least probability of a kind that is named.")] = 0.6


class TuneSettings(Settings):
    """How a classifier is fine-tuned; the defaults are those of the reference model's card."""

    epochs: Annotated[int, Field(ge=1)] = 3
    batch: Annotated[int, Field(ge=1)] = 16
    rate: Annotated[float, Field(gt=0.0)] = 2e-5
    warmup: Annotated[int, Field(ge=0, description="Steps to the full rate; then a line to 0.")] = (
        500
    )
    tokens: Annotated[int, Field(ge=16, le=512, description="Tokens read at once.")] = 512
    texts: Annotated[int | None, Field(ge=1, description="Rows drawn an epoch; default: all.")] = (
        None
    )
    prefixes: Annotated[Share, Field(description="Share of texts cut to a prefix.")] = 0.0


class _Common(Settings):
    """What every recipe has: a model's name, ``<name>_v<version>``, and what it learns from."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    version: Annotated[int, Field(ge=1)] = 1
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()

    @property
    def folder(self) -> str:
        return f"{self.name}_v{self.version}"


class EmbeddedRecipe(_Common):
    """How to build an embedded model."""

    kind: Literal["embedded"] = "embedded"
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "embedded"
    seed: int = 20
    features: FeatureSettings = FeatureSettings()
    network: NetworkSettings = NetworkSettings()
    fit: FitSettings = FitSettings()
    encoder: EncoderSettings | None = None
    thresholds: ThresholdSettings = ThresholdSettings()


class TransformerRecipe(_Common):
    """How to fine-tune a Hugging Face sequence classifier."""

    kind: Literal["transformer"] = "transformer"
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "transformer"
    seed: int = 42
    base: Annotated[str, Field(min_length=1, description="Hub id or folder.")] = (
        "distilroberta-base"
    )
    revision: Annotated[str | None, Field(description="Of the hub's repository.")] = None
    base_licence: Annotated[str, Field(description="For the model card.")] = "see the base's card"
    fit: TuneSettings = TuneSettings()
    thresholds: RefusalSettings = RefusalSettings()


Recipe: TypeAlias = EmbeddedRecipe | TransformerRecipe
KINDS: dict[str, type[EmbeddedRecipe] | type[TransformerRecipe]] = {
    "embedded": EmbeddedRecipe,
    "transformer": TransformerRecipe,
}


def recipe_of(settings: object) -> Recipe:
    """A recipe of the kind that the settings name; ``embedded`` where they name none.

    Raises ``ValueError`` that names every key at fault.
    """
    if not isinstance(settings, dict):
        raise TypeError("a recipe must be a mapping of keys to values")
    kind = settings.get("kind", "embedded")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is no kind of model; it may be {' or '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(settings)
    except ValidationError as error:
        told = "; ".join(_told(kind, fault["loc"], fault["msg"]) for fault in error.errors())
        raise ValueError(told) from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; ``InputError`` names the file, the key and what it may be."""
    settings = from_file(path, smallest="kind: embedded").data
    try:
        return recipe_of(settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _told(kind: str, place: tuple[Any, ...], problem: str) -> str:
    """One fault: its key, and what is wrong with it."""
    key = ".".join(map(str, place))
    owners = [name for name, model in KINDS.items() if place[:1] and place[0] in model.model_fields]
    if owners and kind not in owners:
        return f"{key}: a key of kind: {owners[0]}, not of kind: {kind}"
    return f"{key}: {problem}"

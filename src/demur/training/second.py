"""The second opinion: fits the encoder, and weighs it with the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..detection.encoder import Encoder
from ..detection.pieces import Pieces
from ..detection.text import judged
from .encoder import TorchEncoder, pad, prune
from .fitting import Progress, loss_of, schedule
from .metrics import sigmoid
from .network import OUTPUTS
from .pretrained import Pretrained
from .recipe import EncoderSettings, Recipe
from .rows import Row, clean
from .sampling import balance, present

_CHUNK = 40
_PULL = 1.0

Compose = Callable[[int], list[Row]]
"""Gives that many texts beside the data's."""


class EncoderFit:
    """One training run of the encoder."""

    def __init__(self, recipe: Recipe, start: Pretrained, rows: Sequence[Row]) -> None:
        settings = recipe.encoder
        if settings is None:
            raise ValueError("the recipe has no encoder")
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        self.random = np.random.default_rng(recipe.seed)
        self.rows = clean(rows)
        kept = prune(start, (judged(row.response) for row in rows), settings.pieces)
        self.net = TorchEncoder(start, kept, settings)
        self.pieces = Pieces.of(
            [start.pieces[k] for k in kept], start.scores[kept].astype(float).tolist()
        )
        self.loss = 0.7

    def run(self, compose: Compose, progress: Progress) -> None:
        """Weights are kept in float32; passes run on a copy of them in bfloat16, which processors
        multiply several times faster."""
        settings = self.settings
        total = -(-settings.texts // settings.batch)
        trained = [p for p in self.net.parameters() if p.requires_grad]
        passing = deepcopy(self.net).bfloat16().train()
        copies = [p for p in passing.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=0.01)
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule(total))
        done = 0
        while done < total:
            for batch in self._batches(compose)[: total - done]:
                loss = self._loss(passing, batch)
                passing.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                for weight, copy in zip(trained, copies, strict=True):
                    weight.grad = None if copy.grad is None else copy.grad.float()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimiser.step()
                rate.step()
                with torch.no_grad():
                    for weight, copy in zip(trained, copies, strict=True):
                        copy.copy_(weight)
                done += 1
                self.loss += 0.02 * (loss.item() - self.loss)
                progress(done, total, self.loss)

    def _batches(self, compose: Compose) -> list[list[tuple[list[int], Row]]]:
        """Some batches' texts, each batch of about one length."""
        settings = self.settings
        size = settings.batch * _CHUNK
        composed = round(size * settings.composed)
        rows = [*balance(self.rows, self.random, size - composed), *compose(composed)]
        fit = self.recipe.fit.model_copy(update={"prefixes": settings.prefixes})
        shown = present(rows, self.random, self.recipe.augment, fit)
        read = [(self._read(row.response), row) for row in shown]
        read.sort(key=lambda item: len(item[0]) + 4 * self.random.random())
        batches = [read[i : i + settings.batch] for i in range(0, size, settings.batch)]
        order = self.random.permutation(len(batches))
        return [batches[i] for i in order]

    def _loss(self, net: TorchEncoder, batch: Sequence[tuple[list[int], Row]]) -> torch.Tensor:
        answers = net(*pad([pieces for pieces, _ in batch]))
        return loss_of(answers.float(), [row for _, row in batch], self.recipe.fit.smoothing)

    def _read(self, text: str) -> list[int]:
        return self.pieces.read(judged(text), self.settings.head, self.settings.tail)


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
    prior = np.array([0.3, 0.7, 0.0])
    pull = np.array([_PULL, _PULL, 0.1])

    def cost(weights: NDArray[np.float64]) -> float:
        signs = np.where(labels > 0, -1.0, 1.0)
        misfit = np.logaddexp(0.0, signs * (features @ weights)).sum()
        return float(misfit + 0.5 * (pull * (weights - prior) ** 2).sum())

    weights = prior.copy()
    for _ in range(100):
        scores = sigmoid(features @ weights)
        slope = features.T @ (scores - labels) + pull * (weights - prior)
        curve = (features * (scores * (1 - scores))[:, None]).T @ features + np.diag(pull)
        step = np.linalg.solve(curve, slope)
        before = cost(weights)
        # Newton's full step overshoots where the labels are nearly told apart.
        while cost(weights - step) > before and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    weights[:2] = np.maximum(weights[:2], 0.0)
    return dict(zip(("network", "encoder", "shift"), map(float, weights), strict=True))


def settings_of(
    settings: EncoderSettings, low: float, whole: dict[str, float], prefix: dict[str, float]
) -> dict[str, Any]:
    """The part of ``config.json`` that says when the encoder is asked."""
    return {
        "low": low,
        "high": settings.high,
        "whole": whole,
        "prefix": prefix,
        "least": 64,
        "every": 32,
    }

"""The training loop of the embedded network: reproducible by its seed, on one CPU core or more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..detection.features import Features
from ..detection.network import DENSE, Network
from ..detection.ngrams import NGrams, extract, split
from ..detection.text import judged
from .fresh import Fresh
from .network import OUTPUTS, Batch, Net, collate
from .recipe import EmbeddedRecipe
from .rows import Row
from .running import Run
from .sampling import balance, present

Teacher = Callable[[Sequence[Row], Batch], torch.Tensor]
"""Given texts, and the same as a network reads them: probabilities, one row a text, in the order of
``OUTPUTS``."""

KINDS = ("policy", "capability", "scope")


def read(text: str) -> NGrams:
    """The features of a raw response; a text with no words at all gives one empty word."""
    return extract(_readable(text))


def _readable(text: str) -> str:
    return judged(text) or "\n"


class Fit(Run[Sequence[Row]]):
    """One training run of the network; a round is an epoch."""

    def __init__(
        self,
        recipe: EmbeddedRecipe,
        keys: NDArray[np.uint32],
        rows: Sequence[Row],
        fresh: Fresh,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(recipe.seed, fresh)
        self.recipe, self.rows, self.teacher = recipe, rows, teacher
        shape, fit = recipe.network, recipe.fit
        self.net: Net = Net(keys.size, shape.width, shape.filters, shape.hidden, shape.dropout)
        self.features = Features(keys)
        self.number = fit.texts or len(rows)
        self.total = -(-(self.number + recipe.augment.templates) // fit.batch) * fit.epochs
        self.pace = schedule(self.total)
        dense = torch.optim.AdamW(self.net.dense_parameters(), lr=fit.rate, weight_decay=0.01)
        sparse = torch.optim.SparseAdam(
            list(self.net.embed.parameters()), lr=fit.embedding_rate, betas=(0.9, 0.99)
        )
        self.optimisers = (dense, sparse)

    def draw(self) -> list[list[Row]]:
        epoch = [
            *balance(self.rows, self.random, self.number),
            *self.fresh(self.recipe.augment.templates),
        ]
        self.random.shuffle(epoch)
        size = self.recipe.fit.batch
        return [epoch[start : start + size] for start in range(0, len(epoch), size)]

    def step(self, batch: Sequence[Row]) -> None:
        recipe = self.recipe
        shown = present(batch, self.random, recipe.augment, recipe.fit.prefixes)
        self.net.train()
        loss = self._loss(shown)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.dense_parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.loss += 0.01 * (loss.item() - self.loss)

    def _loss(self, batch: Sequence[Row]) -> torch.Tensor:
        grams = [read(row.response) for row in batch]
        rows = [self.features.rows(gram.hashes) for gram in grams]
        answers = self.net(collate(grams, rows, self.recipe.fit.forget, self.random))
        if self.teacher is None:
            return loss_of(answers, batch, self.recipe.fit.smoothing)
        return taught_loss(answers, self.teacher(batch, collate(grams, rows)), batch)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights as ``detection.network`` reads them, embeddings in 8 bits."""
        state = {name: value.detach().numpy() for name, value in self.net.state_dict().items()}
        table = state.pop("embed.weight")
        scale = np.maximum(np.abs(table).max(axis=0), 1e-6) / 127.0
        return {
            "keys": self.features.keys,
            "table": np.round(table / scale).astype(np.int8),
            "scale": scale.astype(np.float32),
            **{name: state[name].astype(np.float32) for name in DENSE},
        }


def loss_of(answers: torch.Tensor, batch: Sequence[Row], smoothing: float) -> torch.Tensor:
    """The whole text's label, the beginning's, the middle label and the kind, weighed together.

    A beginning counts for the second output alone; partial rows count for the third alone.
    """
    labels = torch.tensor([float(row.label) for row in batch])
    sure = torch.tensor([float(not row.partial) for row in batch])
    targets = torch.stack([labels * (1 - 2 * smoothing) + smoothing, labels, 1 - sure], dim=1)
    return _weighed(answers, targets, sure, batch)


def taught_loss(answers: torch.Tensor, taught: torch.Tensor, batch: Sequence[Row]) -> torch.Tensor:
    """``loss_of``, with what a teacher holds probable in the labels' place, of partial rows too.

    ``taught`` are probabilities, one row a text, in the order of ``OUTPUTS``. The kinds are learnt
    from labels: few rows have one, and teachers know no more.
    """
    return _weighed(answers, taught, torch.ones(len(batch)), batch)


def _weighed(
    answers: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor, batch: Sequence[Row]
) -> torch.Tensor:
    whole = torch.tensor([float(row.final) for row in batch])
    judged_loss, held_loss, middle = (
        binary_cross_entropy_with_logits(answers[:, place], targets[:, place], reduction="none")
        for place in range(3)
    )
    loss = (counted * (whole * judged_loss + held_loss * (1.5 - whole))).mean()
    loss = loss + 0.2 * (whole * middle).mean()
    kinds = torch.tensor([KINDS.index(r.kind) if r.kind in KINDS else -1 for r in batch])
    if bool((kinds >= 0).any()):
        loss = loss + 0.1 * cross_entropy(answers[:, 3:], kinds, ignore_index=-1)
    return loss


def answers_of(network: Network, texts: Sequence[str]) -> NDArray[np.float64]:
    """The network's logits, one row a text, in the order of ``OUTPUTS``."""
    if not texts:
        return np.zeros((0, len(OUTPUTS)))
    words = [split(_readable(text)) for text in texts]
    return np.stack([network.outputs(found) for found in words]).astype(np.float64)


def schedule(total: int) -> Callable[[int], float]:
    """Up over the first twentieth, then down in a line."""
    warm = max(1, total // 20)
    return lambda step: min((step + 1) / warm, max(0.02, (total - step) / max(1, total - warm)))

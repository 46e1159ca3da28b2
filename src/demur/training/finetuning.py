"""Fine-tuning of a sequence classifier: the reference card's loop, the best epoch kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ..detection.windows import Ids
from ..errors import InputError
from .checkpoints import Keeper, State
from .classifier import Classifier
from .material import Material
from .metrics import Quality, quality, sigmoid
from .recipe import TransformerRecipe
from .rows import Row, clean
from .running import Progress, Run
from .sampling import balance, present

TABLE = ("loss", "accuracy", "recall", "precision", "f1", "false_positive_rate")
"""The reference card's table, and the false-positive rate."""

_CHUNK = 50
Read = tuple[Ids, int]
"""A text's tokens and its label."""
Tell = Callable[[str], None]


class FineTune(Run[Sequence[Read]]):
    """One training run; a round is an epoch. ``net`` is the classifier's, with the last weights.

    Optimiser, schedule and clipping are those of the reference model's card.
    """

    def __init__(
        self,
        recipe: TransformerRecipe,
        material: Material,
        device: str,
        stage: Callable[[str], Progress],
        tell: Tell,
    ) -> None:
        super().__init__(recipe.seed, material.fresh(recipe))
        fit = recipe.fit
        self.recipe, self.develop = recipe, material.develop
        self.rows = clean(material.rows)
        self.classifier = Classifier.load(recipe, device)
        self.net = self.classifier.net
        self.number = fit.texts or len(self.rows)
        self.per_epoch = -(-(self.number + recipe.augment.templates) // fit.batch)
        self.total = self.per_epoch * fit.epochs
        if fit.warmup >= self.total:
            raise InputError(
                f"fit.warmup: {fit.warmup} steps, but the whole run has {self.total}; "
                "set it lower, or train on more texts or epochs"
            )
        self.pace = linear(fit.warmup, self.total)
        self.optimisers = (torch.optim.AdamW(self.net.parameters(), lr=fit.rate, weight_decay=0.0),)
        self.epochs: list[dict[str, Any]] = []
        """What each epoch's weights were worth on the development rows: the card's table."""
        self._stage, self._tell = stage, tell
        self._best: dict[str, torch.Tensor] = {}

    def draw(self) -> list[list[Read]]:
        """An epoch's batches; within a few dozens of them, texts of about one length go together,
        so that less padding is read."""
        recipe, size = self.recipe, self.recipe.fit.batch
        rows = [
            *balance(self.rows, self.random, self.number),
            *self.fresh(recipe.augment.templates),
        ]
        rows = [rows[i] for i in self.random.permutation(len(rows))]
        shown = present(rows, self.random, recipe.augment, recipe.fit.prefixes)
        read = [(self.classifier.read(row.response), row.label) for row in shown]
        epoch: list[list[Read]] = []
        for start in range(0, len(read), size * _CHUNK):
            part = sorted(read[start : start + size * _CHUNK], key=lambda item: len(item[0]))
            batches = [part[i : i + size] for i in range(0, len(part), size)]
            epoch += [batches[i] for i in self.random.permutation(len(batches))]
        return epoch

    def step(self, batch: Sequence[Read]) -> None:
        self.net.train()
        logits = self.classifier.logits([ids for ids, _ in batch])
        labels = torch.tensor([label for _, label in batch], device=logits.device)
        loss = cross_entropy(logits, labels)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.loss += 0.02 * (self._finite(loss.item()) - self.loss)

    def settle(self, keeper: Keeper | None) -> None:
        """Measure the epoch that ended, and keep its weights if they are the best so far."""
        if self.done // self.per_epoch <= len(self.epochs):
            return
        if keeper:
            keeper.save(self.state())
        found = measured(self.classifier, self.develop, self._stage("measuring"))
        self._finite(found.loss)
        self.epochs.append({**plain(found), "epoch": len(self.epochs) + 1})
        self._tell(f"epoch {len(self.epochs)} of {self.recipe.fit.epochs}: {described(found)}")
        if self.best == len(self.epochs):
            self._best = {n: value.detach().clone() for n, value in self.net.state_dict().items()}
            if keeper:
                keeper.beside("best").save(State(self._best, {}))
        if keeper:
            keeper.save(self.state())

    def _finite(self, loss: float) -> float:
        """Raises ``InputError`` where weights have grown beyond all bounds: no epoch mends that."""
        if not math.isfinite(loss):
            raise InputError(
                f"fit.rate: {self.recipe.fit.rate:g} is too high for this base: by step "
                f"{self.done + 1} of {self.total} the loss is no number; set it lower, or "
                "fit.warmup higher, and give --restart"
            )
        return loss

    @property
    def best(self) -> int:
        """The epoch of the greatest F1, of equals the one of the least loss; counted from 1."""
        ranked = max(self.epochs, key=lambda epoch: (epoch["f1"] or 0.0, -epoch["loss"]))
        return int(ranked["epoch"])

    def take_best(self) -> Classifier:
        """The classifier, with the weights of its best epoch."""
        self.net.load_state_dict(self._best)
        return self.classifier

    def run(self, progress: Progress, keeper: Keeper | None = None) -> None:
        """See ``Run``; what was best before is taken up too."""
        best = keeper.beside("best").load() if keeper else None
        self._best = dict(best.tensors) if best else {}
        super().run(progress, keeper)

    def state(self) -> State:
        known = super().state()
        return State(known.tensors, {**known.plain, "epochs": self.epochs})

    def restore(self, state: State) -> None:
        super().restore(state)
        self.epochs = list(state.plain["epochs"])


def measured(classifier: Classifier, rows: Sequence[Row], progress: Progress) -> Quality:
    """How good the classifier is at threshold 0.5."""
    odds = classifier.odds([row.response for row in rows], progress)
    return quality(sigmoid(odds), odds >= 0.0, np.array([row.label for row in rows]))


def plain(found: Quality) -> dict[str, Any]:
    """As JSON can hold it: what nothing defines is null."""
    return {name: None if value != value else value for name, value in asdict(found).items()}


def described(found: Quality) -> str:
    """The card's table on one line."""
    return ", ".join(f"{name.replace('_', ' ')} {getattr(found, name):.4f}" for name in TABLE)


def linear(warmup: int, total: int) -> Callable[[int], float]:
    """Up in a line over ``warmup`` steps, then down in a line to nothing."""
    return lambda step: (
        step / warmup if step < warmup else max(0.0, (total - step) / max(1, total - warmup))
    )

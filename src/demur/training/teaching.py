"""What a network learns in place of labels: what others that have learnt already hold probable.

After Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
(arXiv:1503.02531), with logits averaged and at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch

from .encoder import pad
from .network import OUTPUTS, Batch, Net
from .rows import Row
from .second import EncoderFit, quickest

_SURE = 4.0
_BATCH = 12


class Teachers:
    """Networks over the same features, and perhaps an encoder, as a ``fitting.Teacher``.

    The encoder has half a say in the whole texts that the networks leave open: elsewhere their
    logits are beyond 4 either way, and asking it would take most of the time.
    """

    def __init__(self, networks: Sequence[Net], encoder: EncoderFit | None) -> None:
        self._networks = [net.eval() for net in networks]
        self._second = _Second(encoder) if encoder else None

    @torch.no_grad()
    def __call__(self, rows: Sequence[Row], read: Batch) -> torch.Tensor:
        found = torch.stack([net(read) for net in self._networks]).mean(0)
        unsure = [
            place
            for place, (row, logit) in enumerate(zip(rows, found[:, 0].tolist(), strict=True))
            if row.final and abs(logit) < _SURE
        ]
        if self._second is not None and unsure:
            opinions = self._second([rows[place].response for place in unsure])
            found[unsure] = (found[unsure] + opinions) / 2
        return torch.sigmoid(found)


class _Second:
    """An encoder's logits, one row a text."""

    def __init__(self, fit: EncoderFit) -> None:
        self._read = fit.read
        self._net = deepcopy(fit.net).to(quickest()).eval()

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        pieces = [self._read(text) for text in texts]
        # Texts of about one length are read together.
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        opinions = torch.zeros(len(pieces), len(OUTPUTS))
        for first in range(0, len(order), _BATCH):
            part = order[first : first + _BATCH]
            opinions[part] = self._net(*pad([pieces[place] for place in part])).float()
        return opinions

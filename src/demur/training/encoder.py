"""The embedded encoder in torch, for training; ``detection.encoder`` is the same in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu, softmax

from ..detection.encoder import HEADS, MATRICES, opened
from ..detection.pieces import PADDING, Pieces
from .network import OUTPUTS
from .pretrained import ENDS, Pretrained
from .recipe import EncoderSettings
from .trained import Trained

_NORMS = ("aln", "oln")
Start: TypeAlias = Pretrained | Trained
"""What an encoder begins as."""


class Block(nn.Module):
    """One layer: attention, then two dense layers, each normalised after."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.ao = (nn.Linear(width, width) for _ in range(4))
        self.fi, self.fo = nn.Linear(width, inner), nn.Linear(inner, width)
        self.aln, self.oln = (nn.LayerNorm(width, eps=1e-12) for _ in _NORMS)

    def forward(self, state: Tensor, mask: Tensor) -> Tensor:
        size, length, width = state.shape

        def split(values: Tensor) -> Tensor:
            return values.view(size, length, HEADS, -1).transpose(1, 2)

        # By plain products: the fused attention's backward pass takes three times as long on CPUs.
        likeness = split(self.q(state)) @ split(self.k(state)).transpose(-1, -2)
        shares = softmax(likeness * (HEADS / width) ** 0.5 + mask, dim=-1)
        joined = (shares @ split(self.v(state))).transpose(1, 2).reshape(size, length, width)
        state = self.aln(state + self.ao(joined))
        wide = gelu(self.fi(state), approximate="tanh")
        answer: Tensor = self.oln(state + self.fo(wide))
        return answer


class TorchEncoder(nn.Module):
    """The lowest layers of the pretrained encoder, with a new head.

    Piece embeddings stay as they are: languages that training sees little of keep their place
    beside the others.
    """

    def __init__(self, start: Start, kept: Sequence[int], settings: EncoderSettings) -> None:
        super().__init__()
        self.head_pieces, self.tail_pieces = settings.head, settings.tail
        longest = settings.head + settings.tail + ENDS
        width = start.width
        self.start, self.kept = start, list(kept)
        self.word = nn.Embedding(len(kept), width)
        self.places = nn.Embedding(longest, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Block(width, start.inner) for _ in range(settings.depth))
        self.head = nn.Linear(2 * width, len(OUTPUTS))
        self.drop = nn.Dropout(settings.dropout)
        self._copy(start)
        self.word.weight.requires_grad_(False)

    def forward(self, pieces: Tensor, real: Tensor) -> Tensor:
        length = pieces.shape[1]
        state = self.norm(self.word(pieces) + self.places(torch.arange(length)))
        mask = torch.zeros(pieces.shape[0], 1, 1, length, dtype=state.dtype)
        mask = mask.masked_fill(~real[:, None, None, :], -1e9)
        for layer in self.layers:
            state = layer(state, mask)
        shown = real.unsqueeze(-1).to(state.dtype)
        mean = (state * shown).sum(1) / shown.sum(1)
        answer: Tensor = self.head(self.drop(torch.cat([state[:, 0], mean], dim=1)))
        return answer

    def _copy(self, start: Start) -> None:
        values, scales = start.blocks()
        parts = [
            (self.word, (opened(values[self.kept], scales[self.kept]),)),
            (self.places, (start.places(self.places.num_embeddings),)),
            (self.norm, start.norm()),
            (self.head, start.head() or ()),
            *(
                (getattr(layer, name), start.layer(index, name))
                for index, layer in enumerate(self.layers)
                for name in (*MATRICES, *_NORMS)
            ),
        ]
        with torch.no_grad():
            for part, arrays in parts:
                for own, array in zip(part.parameters(), arrays, strict=False):
                    own.copy_(torch.from_numpy(array))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights as ``detection.encoder`` reads them."""
        blocks, scales = self.start.blocks()
        state = {name: value.detach().numpy() for name, value in self.state_dict().items()}
        names = "\n".join(self.start.pieces[k] for k in self.kept).encode("utf-8")
        found: dict[str, NDArray[Any]] = {
            "pieces": np.frombuffer(names, dtype=np.uint8),
            "piece_scores": self.start.scores[self.kept],
            "depth": np.array(len(self.layers)),
            "window": np.array([self.head_pieces, self.tail_pieces]),
            "word": blocks[self.kept],
            "word_scale": scales[self.kept],
            "places": state["places.weight"].astype(np.float16),
        }
        for name in ("norm.weight", "norm.bias", "head.weight", "head.bias"):
            found[name] = state[name]
        for name, value in state.items():
            if not name.startswith("layers."):
                continue
            place = "layer" + name.removeprefix("layers.")
            if name.endswith(".weight") and name.split(".")[2] in MATRICES:
                scale = np.maximum(np.abs(value).max(axis=1), 1e-9) / 127.0
                found[place] = np.round(value / scale[:, None]).astype(np.int8)
                found[place.removesuffix(".weight") + ".scale"] = scale.astype(np.float32)
            else:
                found[place] = value
        return found


def prune(start: Start, texts: Iterable[str], number: int) -> list[int]:
    """The pieces to keep: those of at least three texts first, then the likeliest of all.

    The rest is left to single characters and to pieces that open a word, in lower case, as texts
    are normalised to it. A start that has no more than ``number`` keeps them all.
    """
    if len(start.pieces) <= number:
        return list(range(len(start.pieces)))
    full = Pieces.of(start.pieces, start.scores.astype(float).tolist())
    frequency: Counter[int] = Counter()
    for text in texts:
        frequency.update(set(full.read(text, 1_000, 0)))
    kept = set(range(4))
    used = (place for place, count in frequency.most_common(number * 3 // 4) if count >= 3)
    kept.update(used)
    for place in np.argsort(-start.scores, kind="stable").tolist():
        if len(kept) >= number:
            break
        piece = start.pieces[place]
        if piece == piece.lower() and (len(piece) == 1 or piece.startswith("\u2581")):
            kept.add(place)
    return sorted(kept)


def pad(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Piece places and which of them are real, padded to the longest."""
    longest = max(map(len, texts))
    pieces = torch.full((len(texts), longest), PADDING)
    real = torch.zeros(len(texts), longest, dtype=torch.bool)
    for index, text in enumerate(texts):
        pieces[index, : len(text)] = torch.tensor(text)
        real[index, : len(text)] = True
    return pieces, real

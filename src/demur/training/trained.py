"""The encoder of a model that ``demur train`` has made, as another's start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..detection.encoder import MATRICES, Encoder
from ..errors import InputError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """What ``Pretrained`` has, out of an ``encoder.npz``: all of its pieces, and its head."""

    pieces: tuple[str, ...]
    scores: Floats
    width: int
    depth: int
    inner: int
    _arrays: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path) -> Trained:
        """Raises ``InputError`` where the file is no encoder."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            Encoder.build(arrays)
            return cls(
                pieces=tuple(arrays["pieces"].tobytes().decode("utf-8").split("\n")),
                scores=arrays["piece_scores"],
                width=arrays["places"].shape[1],
                depth=int(arrays["depth"]),
                inner=arrays["layer0.fi.weight"].shape[0],
                _arrays=arrays,
            )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: cannot be read as an encoder: {error}; give encoder.npz of a model"
            ) from error

    @property
    def longest(self) -> int:
        return int(self._arrays["places"].shape[0])

    def places(self, count: int) -> Floats:
        found: Floats = self._arrays["places"][:count].astype(np.float32)
        return found

    def norm(self) -> tuple[Floats, Floats]:
        return self._arrays["norm.weight"], self._arrays["norm.bias"]

    def head(self) -> tuple[Floats, Floats] | None:
        return self._arrays["head.weight"], self._arrays["head.bias"]

    def layer(self, index: int, name: str) -> tuple[Floats, Floats]:
        place = f"layer{index}.{name}"
        weight = self._arrays[f"{place}.weight"]
        if name in MATRICES:
            weight = weight.astype(np.float32) * self._arrays[f"{place}.scale"][:, None]
        return weight, self._arrays[f"{place}.bias"]

    def blocks(self) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        return self._arrays["word"], self._arrays["word_scale"]

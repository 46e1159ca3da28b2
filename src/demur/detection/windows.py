"""From a text of any length to the windows a classifier can read, and into batches of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..policy.schema import Windows

WINDOW_CHARS = 8192
"""Characters at each end that are tokenised for ``ends``: more than 512 tokens' worth."""
OVERLAP = 8
"""Windows of ``all`` share a window's length divided by this, so that no sentence is torn."""
BATCH_TOKENS = 4096
"""Most tokens of one forward pass, padding counted: bounds its memory and the shortest's wait."""

ENDING: Final = threading.Event()
"""The interpreter is ending: no forward pass is begun any more."""

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer of the ``tokenizers`` library, and how much its model can read at once.

    Not safe to share between threads. ``before`` and ``after`` are the special tokens that stand
    around every window.
    """

    tokenizer: Any
    before: tuple[int, ...]
    after: tuple[int, ...]
    max_tokens: int
    pad: int

    @classmethod
    def of(cls, tokenizer: Any, *, max_tokens: int, pad: int) -> Tokens:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        dressed = tokenizer.encode("a", add_special_tokens=True).ids
        start = next(
            i for i in range(len(dressed)) if dressed[i : i + len(bare)] == bare or not bare
        )
        before, after = dressed[:start], dressed[start + len(bare) :]
        return cls(tokenizer, tuple(before), tuple(after), max_tokens, pad)

    def windows(self, text: str, mode: Windows) -> list[Ids]:
        """The whole text where it fits, else its windows, each with its special tokens."""
        room = self.max_tokens - len(self.before) - len(self.after)
        if mode == "ends" and len(text) > 2 * WINDOW_CHARS:
            bodies = [
                self._ids(text[:WINDOW_CHARS])[:room],
                self._ids(text[-WINDOW_CHARS:])[-room:],
            ]
        else:
            ids = self._ids(text)
            bodies = [ids[start : start + room] for start in _starts(len(ids), room, mode)]
        return [[*self.before, *body, *self.after] for body in bodies]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def batches(windows: Sequence[Ids], size: int) -> Iterator[list[int]]:
    """Indices of windows to be read together: shortest first, padded by a quarter at most."""
    batch: list[int] = []
    for index in sorted(range(len(windows)), key=lambda i: len(windows[i])):
        length = len(windows[index])
        if batch and (
            len(batch) == size
            or length * (len(batch) + 1) > BATCH_TOKENS
            or length > 8 + len(windows[batch[0]]) * 5 // 4
        ):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _starts(length: int, room: int, mode: Windows) -> list[int]:
    if length <= room:
        return [0]
    last = length - room
    if mode == "ends":
        return [0, last]
    return [*range(0, last, room - room // OVERLAP), last]

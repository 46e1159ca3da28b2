"""Where an unfinished training run stands: plain files, each written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError

SECONDS = 300.0
"""Between two checkpoints, where nothing else is said."""
SUFFIX = ".unfinished"

_HEAD = "run.json"
_PLAIN = "state"


@dataclass(frozen=True, slots=True)
class State:
    """What a stage is taken up from: tensors, and values that JSON can hold."""

    tensors: Mapping[str, torch.Tensor]
    plain: Mapping[str, Any]


class Checkpoints:
    """A folder with one safetensors file a stage; what is no tensor stands in the file's header.

    It is made when there is something to keep. ``seconds`` lie between two checkpoints.
    """

    def __init__(self, folder: Path, of: Mapping[str, str], seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self._of = dict(of)

    @classmethod
    def open(
        cls, folder: Path, of: Mapping[str, str], *, resume: bool = True, seconds: float = SECONDS
    ) -> Checkpoints:
        """Those in ``folder``, if there are any.

        ``of`` says what makes the run: digests of its recipe, its data and so on, by name. Raises
        ``InputError`` where those of another run are there; without ``resume`` they are dropped.
        """
        if not resume and folder.exists():
            shutil.rmtree(folder)
        if folder.exists():
            _compare(folder, _read(folder / _HEAD), of)
        return cls(folder, of, seconds)

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return self.folder.exists()

    def load(self, stage: str) -> State | None:
        """What ``save`` was given last, if anything."""
        path = self._path(stage)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return State(tensors, json.loads(file.metadata()[_PLAIN]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: a damaged checkpoint ({error}); give --restart to begin anew"
            ) from error

    def save(self, stage: str, state: State) -> None:
        """Raises ``InputError`` where there is no room for it; what was saved before stays."""
        tensors = {name: value.detach().contiguous() for name, value in state.tensors.items()}
        plain = {_PLAIN: json.dumps(state.plain)}
        self._make()
        path = self._path(stage)
        try:
            _replace(path, lambda part: save_file(tensors, part, plain))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path}: cannot be written: {error}; make room, and the same command goes on from "
                "what was kept before"
            ) from error

    def keeper(self, stage: str) -> Keeper:
        return Keeper(self, stage)

    def draft(self) -> Path:
        """A folder to write the model's files to before they are all there."""
        self._make()
        draft = self.folder / "model"
        draft.mkdir(exist_ok=True)
        return draft

    def remove(self) -> None:
        """The run is finished."""
        shutil.rmtree(self.folder)

    def _make(self) -> None:
        head = self.folder / _HEAD
        if not head.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._of)
            _replace(head, lambda part: part.write_text(text, encoding="utf-8"))

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage}.safetensors"


class Keeper:
    """Keeps one stage's state, now and then."""

    def __init__(self, checkpoints: Checkpoints, stage: str) -> None:
        self._checkpoints, self._stage = checkpoints, stage
        self._last = time.monotonic()

    def load(self) -> State | None:
        return self._checkpoints.load(self._stage)

    def save(self, state: State) -> None:
        self._checkpoints.save(self._stage, state)
        self._last = time.monotonic()

    def beside(self, stage: str) -> Keeper:
        """The keeper of another state of the same run."""
        return Keeper(self._checkpoints, stage)

    def mark(self, state: Callable[[], State]) -> None:
        """Keep the state, if it is time."""
        if time.monotonic() - self._last >= self._checkpoints.seconds:
            self.save(state())


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader, or a crash, never meets half of it."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _read(head: Path) -> dict[str, Any]:
    try:
        found = json.loads(head.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{head}: cannot be read: {error}; give --restart to begin anew"
        ) from error
    return found if isinstance(found, dict) else {}


def _compare(folder: Path, found: Mapping[str, Any], of: Mapping[str, str]) -> None:
    other = [name for name in of if found.get(name) != of[name]]
    if other:
        raise InputError(
            f"{folder}: holds an unfinished run with another {', another '.join(other)}; "
            "finish that one, or give --restart to drop it and begin anew"
        )

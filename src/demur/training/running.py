"""A training run that can be left at any step and taken up again, to the same weights."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoints import Keeper, State
from .fresh import Fresh

Progress = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and the running loss."""
Batch = TypeVar("Batch")


class Run(ABC, Generic[Batch]):
    """Draws batches a round at a time and takes a step with each.

    A round left midway is drawn again from what its generators were when it began. ``pace`` gives
    the factor of every learning rate by the steps done.
    """

    net: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    pace: Callable[[int], float]
    total: int
    loss = 0.7

    def __init__(self, seed: int, fresh: Fresh) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.fresh = fresh
        self.done = 0
        self._first = 0
        self._began = self._dice()

    @abstractmethod
    def draw(self) -> Sequence[Batch]:
        """The batches of one more round."""

    @abstractmethod
    def step(self, batch: Batch) -> None:
        """Learn from one batch."""

    def settle(self, keeper: Keeper | None) -> None:
        """Called between rounds, before the first and after the last."""

    def run(self, progress: Progress, keeper: Keeper | None = None) -> None:
        """All steps that are left. Ctrl-C and SIGTERM end it after a step, which is kept."""
        found = keeper.load() if keeper else None
        if found is not None:
            self.restore(found)
            progress(self.done, self.total, self.loss)
        while True:
            self.settle(keeper)
            if self.done >= self.total:
                break
            batches = self._round()[: self.total - self._first]
            with deferred() as asked:
                for batch in batches[self.done - self._first :]:
                    self._learn(batch)
                    progress(self.done, self.total, self.loss)
                    if keeper:
                        keeper.save(self.state()) if asked() else keeper.mark(self.state)
                    if asked():
                        raise KeyboardInterrupt
            self._first = self.done
        if keeper:
            keeper.save(self.state())

    def state(self) -> State:
        """Everything a later step depends on."""
        tensors = {f"net.{name}": value for name, value in _parts(self.net)}
        others: list[dict[str, Any]] = []
        for place, optimiser in enumerate(self.optimisers):
            others.append({})
            for key, values in optimiser.state_dict()["state"].items():
                for name, value in values.items():
                    if isinstance(value, Tensor):
                        tensors[f"optimiser.{place}.{key}.{name}"] = value
                    else:
                        others[place][f"{key}.{name}"] = value
        tensors |= {f"random.{name}": value for name, value in _chances(self.net).items()}
        plain = {
            "done": self.done,
            "loss": self.loss,
            "first": self._first,
            "began": self._began,
            "now": self._dice(),
            "optimisers": others,
        }
        return State(tensors, plain)

    def restore(self, state: State) -> None:
        tensors, plain = state.tensors, state.plain
        with torch.no_grad():
            for name, value in _parts(self.net):
                value.copy_(tensors[f"net.{name}"])
        for place, optimiser in enumerate(self.optimisers):
            known = _under(tensors, f"optimiser.{place}.") | plain["optimisers"][place]
            kept: dict[int, dict[str, Any]] = {}
            for key, value in known.items():
                index, _, name = key.partition(".")
                kept.setdefault(int(index), {})[name] = value
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": kept, "param_groups": groups})
        self.done, self.loss, self._first = plain["done"], plain["loss"], plain["first"]
        self._began = plain["began"]
        self._throw(plain["now"])
        _put_chances(self.net, _under(tensors, "random."))

    def _round(self) -> Sequence[Batch]:
        """The batches of the round that runs, its taken steps included."""
        if self.done == self._first:
            self._began = self._dice()
            return self.draw()
        now = self._dice()
        self._throw(self._began)
        batches = self.draw()
        self._throw(now)
        return batches

    def _learn(self, batch: Batch) -> None:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.pace(self.done)
        self.step(batch)
        self.done += 1

    def _dice(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state, "fresh": self.fresh.state()}

    def _throw(self, dice: dict[str, Any]) -> None:
        self.random.bit_generator.state = dice["random"]
        self.fresh.restore(dice["fresh"])


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noted, so that a step is not torn; a second one is not waited for."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _parts(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(net.named_parameters(), net.named_buffers())


def _under(tensors: Any, prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _chances(net: nn.Module) -> dict[str, Tensor]:
    """torch's own generators: the processor's, and the accelerator's that the network is on."""
    found = {"cpu": torch.get_rng_state()}
    device = next(net.parameters()).device
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def _put_chances(net: nn.Module, chances: dict[str, Tensor]) -> None:
    torch.set_rng_state(chances["cpu"])
    device = next(net.parameters()).device
    if device.type == "cuda" and "cuda" in chances:
        torch.cuda.set_rng_state(chances["cuda"], device)
    elif device.type == "mps" and "mps" in chances:
        torch.mps.set_rng_state(chances["mps"])

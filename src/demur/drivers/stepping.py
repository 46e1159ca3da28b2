"""The driver for gateways that make the calls themselves, one call at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, cast

from ..detection import Detector
from ..flow.completion import Served
from ..flow.effects import (
    Answer,
    Called,
    CallModel,
    ConsumerLeft,
    Effect,
    Failed,
    OpenStream,
)
from ..stores import Store
from ..vocabulary import Outcome, Target
from .awaiting import Port, _Effects


class Bystander(Protocol):
    """What is left of a port where somebody else calls the models."""

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]: ...

    def emit(self, record: Outcome) -> None: ...


class Stepwise:
    """Runs a ``completion_flow`` from one call to the next.

    ``wanted`` is the call the flow waits for, ``served`` what it came to. Before ``start`` both are
    ``None``, and so they are after the flow has raised. A ``stream_flow`` is run as far as streams
    fail to open.
    """

    def __init__(
        self,
        flow: Generator[Effect, Answer, Any],
        bystander: Bystander,
        detector: Detector,
        store: Store | None = None,
    ) -> None:
        self._flow = flow
        self._detector = detector
        self._store = store
        # What is asked for before anybody has answered: calls, which are not performed here.
        self._effects = _Effects(cast("Port", bystander), detector, store)
        self.wanted: CallModel | OpenStream | None = None
        self.served: Served | None = None

    async def start(self) -> None:
        await self._run(partial(next, self._flow))

    async def answer(self, answer: Called | Failed) -> None:
        """Tell the flow how the wanted call went. Raises what the flow raises."""
        await self._run(partial(self._flow.send, answer))

    async def finish(self, port: Port) -> None:
        """Have ``port`` make the wanted call and those after it. Raises what the flow raises."""
        effects = _Effects(port, self._detector, self._store)
        while self.wanted is not None:
            await self._run(await effects.after(self._flow, self.wanted))

    async def leave(self) -> None:
        """Nobody answers the wanted call, and nobody else will be called: the flow records that."""
        with suppress(ConsumerLeft):
            await self._run(partial(self._flow.throw, ConsumerLeft()))

    async def _run(self, step: Callable[[], Effect]) -> None:
        self.wanted = None
        try:
            while True:
                effect = step()
                if isinstance(effect, CallModel | OpenStream):
                    self.wanted = effect
                    return
                step = await self._effects.after(self._flow, effect)
        except StopIteration as done:
            self.served = done.value

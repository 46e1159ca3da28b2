"""One request on its way through LiteLLM's hooks.

The proxy's pre-call hook makes an ``Exchange`` and leaves it in the request's metadata, where the
later hooks find it, whichever attempt they are called for. It holds the request's flow: what the
Router brings is the answer to the call the flow waits for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any, Final

from ...detection import Detector
from ...detection.awaiting import classify_off_loop
from ...drivers.awaiting import Port
from ...drivers.stepping import Stepwise
from ...errors import RefusedError
from ...flow.completion import Served, completion_flow
from ...flow.decision import overall
from ...flow.effects import Called, Failed
from ...flow.plan import Plan
from ...flow.standing import Start
from ...flow.stream import stream_flow
from ...stores import Store
from ...vocabulary import Completion, Evidence, Outcome, Target, Verdict
from .rights import nobody
from .rows import Row
from .spend import BUCKETS
from .surfaces import Surface, read_completion

KEY: Final = "_demur"
"""Where a request has its exchange: under this key, in one of the ``BUCKETS``."""

Rights = Callable[[Sequence[Target]], Awaitable[tuple[Target, ...]]]
Sink = Callable[[Outcome], None]


class Exchange:
    """``outcome`` is the record so far, ``verdict`` that of the attempt last judged.

    ``rights`` says which targets the caller may be served from; at first none.
    ``call_id`` is LiteLLM's id of the request where all its attempts share one (in the proxy).
    ``owed`` is a response the flow wants served that is not the one at hand: the Router is being
    made to come back for it. ``replaced`` says that the attempt last judged is not served, as far
    as is known. ``shown`` is what LiteLLM's headers said of a response that is served in place of a
    later one. ``called`` says that a model has been. ``forbidden`` says that the provider's own
    policy made the first call fail; ``own`` are the groups that the operator wants called for that.
    ``gives_back`` says that the Router serves a filtered response that nobody else answers for.
    ``start`` is where it starts: at the model asked for, unless the pre-call hook finds another.
    ``rows`` are those of dropped attempts, not yet logged, which ``numbers`` counts. ``unwatch``
    ends the watch on the task the request is answered in, if there is one. ``marks`` are LiteLLM's
    marks of inner calls that the request itself has come with.
    """

    def __init__(
        self,
        plan: Plan,
        surface: Surface,
        detector: Detector,
        sink: Sink,
        store: Store | None = None,
    ) -> None:
        self.plan = plan
        self.store = store
        self.surface = surface
        self.stream = False
        self.call_id: str | None = None
        self.rights: Rights = nobody
        self.outcome: Outcome | None = None
        self.refused: RefusedError | None = None
        self.owed: Completion | None = None
        self.replaced = False
        self.shown: dict[str, Any] | None = None
        self.called = False
        self.forbidden = False
        self.own: frozenset[str] = frozenset()
        self.gives_back = False
        self.rows: list[Row] = []
        self.numbers = count()
        self.unwatch: Callable[[], object] | None = None
        self.marks: frozenset[str] = frozenset()
        self.detector = detector
        self._sink = sink
        self._noted = _Noted(detector)
        self.start_at(Start())
        self._since = perf_counter()
        self._begun = False
        self._answers = 0
        self._routed = True
        self._group: str | None = None

    def start_at(self, start: Start) -> None:
        """Note where the request starts, before anything has answered."""
        self.start = start
        self._steps = Stepwise(completion_flow(self.plan, start), self, self._noted, self.store)

    def replace_first(self, stand_in: Target | None) -> None:
        """Note who, if anybody, has answered in the place of the requested model, which erred."""
        if stand_in is not None and not self._begun and not self.moved:
            self.start_at(replace(self.start, stand_in=stand_in))

    @property
    def noting(self) -> Detector:
        """The detector; its verdicts are those of the attempt at hand until they are forgotten."""
        return self._noted

    def forget(self) -> None:
        self._noted.clear()

    @property
    def moved(self) -> bool:
        """Whether the request starts at a fallback."""
        return self.start.at is not None and not self.plan.shadow

    @property
    def asked(self) -> str:
        """The model the Router is to be asked for."""
        start = self.start.at if self.moved else None
        return (start or self.plan.requested).model

    def __deepcopy__(self, memo: object) -> Exchange:
        """LiteLLM copies metadata; the exchange is one."""
        return self

    def __repr__(self) -> str:
        return "<demur>"

    @property
    def verdict(self) -> Verdict | None:
        if self.stream:
            return self.outcome.verdict if self.outcome is not None else None
        return overall(self._noted.verdicts)

    @property
    def seconds(self) -> float:
        """What judging that attempt took, or a stream's attempts."""
        if self.stream:
            return self.outcome.detection_seconds if self.outcome is not None else 0.0
        return self._noted.seconds

    def unwanted(self, group: str | None, *, mocked: bool = False) -> str | None:
        """Why the Router should not call ``group``, if so: the request is to fail, the policy wants
        nobody called for an error of the provider's, one that it names for a refusal, or nobody
        any more.

        ``mocked`` says that nobody is going to be called.
        """
        if self.refused is not None:
            return str(self.refused)
        if self._begun:
            called = not mocked and self.owed is None
            return "not called" if called and not self._is_due(group) else None
        if group in self.own:
            return None
        retry = self.plan.rule.retry
        if not self.forbidden or retry is None or retry.provider_errors:
            return None
        if self.moved:
            return None
        return "not called" if any(target.model == group for target in self.plan.chain) else None

    def _is_due(self, group: str | None) -> bool:
        """Whether ``group`` is among those to call, now that somebody has answered.

        A filtered response makes the Router fall back even after it was judged. One that the policy
        lets pass goes on to the operator's groups then, as without demur.
        """
        if group is None:
            return True
        served = self._steps.served
        if served is None:
            return group in self._left
        if group == self.plan.requested.model:
            return True
        due = served.outcome.ending == "accepted" and group in self.own
        return due or not self.gives_back

    def gives_up_at(self, group: str | None) -> bool:
        """Whether to serve what is kept in place of a call to ``group``, which no rule names.

        An SDK's Router may have been given other fallbacks for a request, and would end with an
        error after these.
        """
        if self.call_id is not None or not self._begun or self.refused is not None:
            return False
        return group not in self.plan.models

    @property
    def _left(self) -> Iterator[str]:
        """The groups that may still be called: the one the flow wants next, and those behind it."""
        wanted = self._steps.wanted
        if wanted is None or wanted.attempt == 0:
            return iter((self.plan.requested.model,))
        place = self.plan.chain.index(wanted.target)
        return (target.model for target in self.plan.chain[place:])

    def goes_on_to(self, group: str | None) -> bool:
        """``group`` is about to be called. Whether that is a fallback's first call, and no repeated
        one, after somebody has answered."""
        before, self._group = self._group, group
        return self._begun and group != before

    @property
    def begun(self) -> bool:
        """Whether any attempt has answered."""
        return self._begun

    @property
    def settled(self) -> bool:
        """Whether the flow is done and wants no more."""
        return self._begun and self._steps.wanted is None

    async def bring(
        self, native: Any, group: str | None, *, routed: bool = True, logging_obj: Any = None
    ) -> bool:
        """``group`` has answered with ``native``. Whether that is what to serve.

        ``routed`` says that a Router made the call and can make another: else nobody falls back.
        ``logging_obj`` is LiteLLM's for the call.
        Raises ``RefusedError`` where the policy wants the request to fail.
        """
        if self.settled:
            return self.owed is None and self.refused is None
        self._routed = routed
        await self._begin()
        await self._skip_to(group)
        self._noted.clear()
        self.replaced = True
        if self._steps.wanted is not None:
            completion = read_completion(self.surface, native, logging_obj)
            await self._answer(Called(completion, self._lap()))
        served = self._steps.served
        self.replaced = served is None or served.completion.native is not native
        if served is None or not self.replaced:
            return served is not None
        self.owed = served.completion
        return False

    async def come_to(self, group: str | None) -> int:
        """``group`` has answered where no hook was told: its place among the attempts."""
        await self._begin()
        await self._skip_to(group)
        return self._answers

    async def finish(self, port: Port) -> Served:
        """Have ``port`` make the calls that are left. What to serve in the end.

        Raises ``RefusedError`` where the policy wants the request to fail.
        """
        with self._noting_refusal():
            await self._steps.finish(port)
        served = self._steps.served
        assert served is not None
        return served

    async def give_up(self) -> Completion | None:
        """The Router has nobody left to call. What to serve, ``None`` if nobody ever answered."""
        await self._begin()
        while self._steps.wanted is not None and self._steps.wanted.attempt > 0:
            await self._answer(Failed(NotReachedError(), self._lap()))
        self.owed = None
        self.replaced = False
        return self._steps.served.completion if self._steps.served is not None else None

    async def fail(self, error: Exception) -> None:
        """The request has failed as a whole, with ``error``: what is not on record yet is noted."""
        if self.outcome is not None:
            return
        await self._begin_anyhow()
        if not self.called:
            await self._steps.leave()
        try:
            while (wanted := self._steps.wanted) is not None:
                told = NotReachedError() if wanted.attempt else error
                await self._answer(Failed(told, self._lap()))
        except Exception as raised:
            if raised is not error and raised is not self.refused:
                raise

    async def leave(self) -> None:
        """Whoever waited was cancelled, and the call that is wanted with it: what is not on record
        yet is noted."""
        if self.outcome is None:
            await self._begin_anyhow()
            await self._steps.leave()

    async def usable(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return await self.rights(targets) if self._routed else ()

    def emit(self, record: Outcome) -> None:
        self.outcome = record
        self._sink(record)

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._steps.start()

    async def _begin_anyhow(self) -> None:
        """Begin also a stream's flow, of which no stream has been opened."""
        if self.stream:
            flow = stream_flow(self.plan, self.start)
            self._steps = Stepwise(flow, self, self._noted, self.store)
        await self._begin()

    async def _skip_to(self, group: str | None) -> None:
        """Attempts the Router made, or left out, without a response to show for it."""
        while (
            group is not None
            and (wanted := self._steps.wanted) is not None
            and wanted.attempt > 0
            and wanted.target.model != group
        ):
            await self._answer(Failed(NotReachedError()))

    async def _answer(self, answer: Called | Failed) -> None:
        self._answers += 1
        with self._noting_refusal():
            await self._steps.answer(answer)

    @contextmanager
    def _noting_refusal(self) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            self.refused = error
            raise

    def _lap(self) -> float:
        now = perf_counter()
        since, self._since = self._since, now
        return now - since


class NotReachedError(Exception):
    """A fallback that erred or was not allowed: the Router knows why."""


class _Noted:
    """A detector that remembers the verdicts of the attempt at hand."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.clear()

    def clear(self) -> None:
        self.verdicts: list[Verdict] = []
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self._detector.name

    @property
    def blocking(self) -> bool:
        return self._detector.blocking

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        start = perf_counter()
        return self._note(self._detector.classify(evidence, final=final), start)

    async def aclassify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        start = perf_counter()
        return self._note(await classify_off_loop(self._detector, evidence, final=final), start)

    def _note(self, verdict: Verdict, start: float) -> Verdict:
        self.seconds += perf_counter() - start
        self.verdicts.append(verdict)
        return verdict


def find(data: Mapping[str, Any]) -> Exchange | None:
    """The exchange of the request this hook is called for.

    ``None`` for calls LiteLLM makes on its own account inside the request (classifiers, searches):
    they carry its metadata, but are nobody's answer.
    """
    for name in BUCKETS:
        metadata = data.get(name)
        if not isinstance(metadata, Mapping):
            continue
        found = metadata.get(KEY)
        if isinstance(found, Exchange) and "internal_call_origin" not in metadata:
            return found if found.call_id in (None, data.get("litellm_call_id")) else None
    return None

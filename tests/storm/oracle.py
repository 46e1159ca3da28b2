"""What a caller may see: every way a scenario can rightly end, worked out apart from demur's flows.

Where something is left to chance (a time limit under load, a detector that sometimes fails), all
that may happen is allowed; everywhere else there is one ending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from demur.testing import chat_shape, responses_shape
from demur.testing.reply import Exchange

from .scenario import BROKEN, DELIVERS, MODELS, Act, Scenario, reply_of, text_of
from .sighting import Sighting, text_in
from .upstream import fault_at

PlainError = Callable[[Scenario, Act], str | None]
"""The exception that a plain client raises for this act, asked as in this scenario."""

LATE = frozenset({"APITimeoutError", "ReadTimeout", "TimeoutError"})
FAILS = frozenset({"429", "500", "503", "hangup"})


@dataclass(frozen=True, slots=True)
class Ending:
    """``model`` answered with ``text``, up to ``errors`` if there are any; ``None``: nothing came.

    ``torn``: the connection was reset, which may take with it what was already sent.
    """

    model: str | None
    text: str = ""
    errors: frozenset[str] = frozenset()
    torn: bool = False


def endings(scenario: Scenario, plain: PlainError) -> list[Ending]:
    return list(dict.fromkeys(_Walk(scenario, plain).attempt(0, ())))


class _Walk:
    def __init__(self, scenario: Scenario, plain: PlainError) -> None:
        self._scenario = scenario
        self._plain = plain
        self._hurried = scenario.consumer == "timeout"

    def attempt(self, index: int, refused: tuple[int, ...]) -> Iterator[Ending]:
        act = self._scenario.acts[index]
        if index == 0 and self._hurried:
            yield Ending(None, errors=LATE)
        for fate in self._fates(act, first=index == 0):
            if fate == "fails" and index == 0:
                yield Ending(None, errors=self._errors(act))
            elif fate == "accepted":
                yield self._served(index)
            else:
                yield from self._next(index, (*refused, *([index] if fate == "refused" else [])))

    def _next(self, index: int, refused: tuple[int, ...]) -> Iterator[Ending]:
        exhausted = index + 1 == len(self._scenario.acts)
        if not exhausted:
            yield from self.attempt(index + 1, refused)
        if not exhausted and self._hurried:
            yield from self._next(index + 1, refused)
        if exhausted or self._scenario.policy == "timed":
            if self._scenario.policy == "error":
                yield Ending(None, errors=frozenset({"RefusedError"}))
            else:
                yield self._served(refused[-1 if self._scenario.policy == "last" else 0])

    def _served(self, index: int) -> Ending:
        act, scenario = self._scenario.acts[index], self._scenario
        errors = self._errors(act)
        if scenario.stream:
            text = self._sent(act, index)
        else:
            text = "" if errors else text_of(act, MODELS[index], scenario.number)
        if self._hurried:
            errors |= LATE
        return Ending(MODELS[index], text, errors, torn=act.fault == "reset" or self._hurried)

    def _sent(self, act: Act, index: int) -> str:
        shape: Any = chat_shape if self._scenario.api == "chat" else responses_shape
        model, number = MODELS[index], self._scenario.number
        asked = Exchange(reply_of(act, model, number), {"model": model, "stream": True}, number)
        events = list(shape.events(asked))
        return text_in(events[: fault_at(act, len(events))])

    def _errors(self, act: Act) -> frozenset[str]:
        error = self._plain(self._scenario, act) if act.fault in BROKEN else None
        return frozenset({error} if error else ())

    def _fates(self, act: Act, *, first: bool) -> set[str]:
        """What may become of an attempt: ``accepted``, ``refused`` or ``fails``."""
        if act.fault in FAILS:
            return {"fails"}
        # What breaks before it can be judged is served as it is, but never as a fallback.
        unread = "accepted" if first else "fails"
        if act.fault in (*BROKEN, "stall"):
            if self._unread(act):
                return {unread}
            if not self._scenario.stream:
                return {"accepted"} if self._readable(act) and first else {"fails"}
        if self._scenario.policy in ("shadow", "tag"):
            return {"accepted"}
        verdict = self._verdict(act)
        if act.fault == "reset" or (act.fault == "stall" and not first):
            verdict |= {unread}
        return verdict

    def _unread(self, act: Act) -> bool:
        """Whether there is an answer, but none that could be judged."""
        if not self._scenario.stream:
            return self._scenario.form == "streamed"
        early = not act.late or act.says in ("filter", "empty")
        if act.fault == "no_done":
            return early and self._scenario.api == "responses"
        return early

    def _readable(self, act: Act) -> bool:
        """Whether the SDK gives back a raw response, whatever parsing it will say."""
        return act.fault == "malformed" and self._scenario.form == "raw"

    def _verdict(self, act: Act) -> set[str]:
        scenario = self._scenario
        right = "accepted" if act.says in DELIVERS else "refused"
        if act.fault == "no_done" and not act.late:
            right = "refused"
        if scenario.detector in ("raising", "hanging", "lying"):
            return {"refused" if scenario.policy == "refuse" else "accepted"}
        if scenario.detector in ("flaky", "embedded"):
            return {"accepted", "refused"}
        if scenario.policy == "capped" and scenario.stream:
            return {"accepted", right}
        return {right}


def wrong(scenario: Scenario, seen: Sighting, allowed: list[Ending]) -> str | None:
    """What is wrong with a sighting: ``mixed``, ``leaked``, ``lost``, ``error``; else ``None``."""
    if any(_fits(seen, ending) for ending in allowed):
        return None
    if len(seen.models) > 1:
        return "mixed"
    served = {ending.model for ending in allowed}
    if seen.models - served:
        return "leaked"
    if seen.error is not None:
        return "error"
    return "lost"


def _fits(seen: Sighting, ending: Ending) -> bool:
    if seen.models and seen.models != {ending.model}:
        return False
    if not ending.text.startswith(seen.text):
        return False
    if seen.left:
        return True
    whole = seen.text == ending.text
    if seen.error is None:
        return whole and ending.model is not None and not ending.errors - LATE
    return seen.error in ending.errors and (whole or ending.torn)

"""The fail-open edge of detection: whatever a detector does, a caller gets an answer in time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import replace
from numbers import Real
from typing import Any, Final, cast, get_args

import anyio

from ..errors import DetectorError, PolicyError
from ..forking import renewed_in_children
from ..vocabulary import LABELS, Evidence, Kind, Verdict
from . import Detector
from .complaints import Complaints

HUNG_LIMIT: Final = 8
"""Calls nobody waits for any more that may still run; beyond that a detector is not called."""
WAY_BACK: Final = 0.05
"""Of the time for an answer, what is kept for waking whoever waits: no timer is early."""

_KINDS: Final = get_args(Kind)

_log = logging.getLogger("demur")


class Guarded:
    """A detector that answers in shape and in time, or raises ``DetectorError``.

    A detector that may block answers through its own ``classify_later`` where it has one, else in a
    thread of its own, within ``seconds``. The thread is a daemon, so one that hangs for ever does
    not keep the interpreter from exiting. Others run inline. Safe to call from many threads; from
    asyncio await ``aclassify``.
    What goes wrong is logged by its type alone, since an exception's message may quote the text;
    what goes wrong all the time, now and then.
    """

    def __init__(self, detector: Detector, seconds: float, *, hung_limit: int = HUNG_LIMIT) -> None:
        self._detector = detector
        self._seconds = seconds
        self._wait = seconds * (1 - WAY_BACK)
        self._complaints = Complaints(_log)
        self._hung_limit = hung_limit
        self.name: Final = str(detector.name)
        self.blocking: Final = bool(detector.blocking)
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``. Calls that hang, hang in the parent."""
        self._hung = 0
        self._lock = threading.Lock()

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """See ``Detector``."""
        with self._failing():
            if not self.blocking:
                return self._checked(self._detector.classify(evidence, final=final), final=final)
            answer = self._start(evidence, final)
            try:
                verdict = answer.result(self._wait)
            except FutureTimeoutError as error:
                raise self._unless_own(error, answer) from error
            return self._checked(verdict, final=final)

    async def aclassify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """``classify`` for asyncio: waits without a thread of its own."""
        if not self.blocking:
            return await self._here(evidence, final)
        with self._failing():
            answer = self._start(evidence, final)
            try:
                # Not `wait_for`: before Python 3.12 it loses a cancellation that meets the answer.
                with anyio.fail_after(self._wait):
                    verdict = await asyncio.wrap_future(answer)
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise self._unless_own(error, answer) from error
            except asyncio.CancelledError:
                self._abandon(answer)
                raise
            return self._checked(verdict, final=final)

    async def _here(self, evidence: Evidence, final: bool) -> Verdict:
        """The answer of a detector that does not block, or waits by itself for what would."""
        aclassify = getattr(self._detector, "aclassify", None)
        ask = getattr(self._detector, "classify_or_wait", aclassify)
        if ask is None:
            return self.classify(evidence, final=final)
        with self._failing():
            verdict = ask(evidence, final=final)
            if not isinstance(verdict, Verdict):
                with anyio.fail_after(self._wait):
                    verdict = await verdict
            return self._checked(verdict, final=final)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong becomes a ``DetectorError``, and is logged."""
        try:
            yield
        except DetectorError as error:
            self._complaints.add(str(error))
            raise
        except Exception as error:  # the fail-open edge
            failure = DetectorError(f"{self.name}: raised {type(error).__name__}")
            self._complaints.add(str(failure))
            raise failure from error

    def _start(self, evidence: Evidence, final: bool) -> Future[Any]:
        """The answer to come: from the detector's own queue, or a thread."""
        classify_later = getattr(self._detector, "classify_later", None)
        if classify_later is not None:
            future: Future[Any] = classify_later(evidence, final=final)
            return future
        answer = _Answer()
        with self._lock:
            if self._hung >= self._hung_limit:
                raise DetectorError(
                    f"{self.name}: not asked, {self._hung} earlier calls have not returned"
                )
        thread = threading.Thread(
            target=self._run, args=(answer, evidence, final), name=f"demur-{self.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise DetectorError(f"{self.name}: no thread could be started") from error
        return answer

    def _run(self, answer: _Answer, evidence: Evidence, final: bool) -> None:
        try:
            with suppress(SystemExit):  # it would end this thread alone, without an answer
                answer.run(self._detector, evidence, final)
        finally:
            answer.settle(None)
            with self._lock:
                answer.over = True
                self._hung -= answer.abandoned

    def _unless_own(self, error: Exception, answer: Future[Any]) -> Exception:
        """The detector's own timeout, or that nobody answered in time."""
        if answer.done() and not answer.cancelled():
            return error
        self._abandon(answer)
        return DetectorError(f"{self.name}: no answer within {self._seconds:g} s")

    def _abandon(self, answer: Future[Any]) -> None:
        """Nobody waits for it any more."""
        answer.cancel()
        if isinstance(answer, _Answer):
            with self._lock:
                if not answer.over:
                    answer.abandoned = True
                    self._hung += 1

    def _checked(self, verdict: object, *, final: bool) -> Verdict:
        """The verdict, if it is one. No value of it is quoted: it may hold text."""
        if not isinstance(verdict, Verdict):
            raise self._misshapen(f"{type(verdict).__name__} instead of a Verdict")
        labels = LABELS if final else (*LABELS, "uncertain")
        if not isinstance(verdict.label, str) or verdict.label not in labels:
            raise self._misshapen(f"a label that is none of {', '.join(labels)}")
        for field in ("score", "threshold"):
            value = getattr(verdict, field)
            if not isinstance(value, Real) or not 0 <= cast("float", value) <= 1:
                raise self._misshapen(f"a {field} that is no number in [0, 1]")
        kind = verdict.kind
        if kind is not None and not (isinstance(kind, str) and kind in _KINDS):
            raise self._misshapen(f"a kind that is none of {', '.join(_KINDS)}")
        if not isinstance(verdict.stage, str) or not verdict.stage.isprintable():
            raise self._misshapen("a stage that is no printable name")
        if type(verdict.score) is float and type(verdict.threshold) is float:
            return verdict
        return replace(verdict, score=float(verdict.score), threshold=float(verdict.threshold))

    def _misshapen(self, what: str) -> DetectorError:
        return DetectorError(f"{self.name}: answered with {what}")


class _Answer(Future[Any]):
    """The answer of a call in a thread: waited for, or abandoned while it is still running."""

    abandoned = False
    over = False

    def run(self, detector: Detector, evidence: Evidence, final: bool) -> None:
        try:
            self.settle(detector.classify(evidence, final=final))
        except DetectorError as error:
            self.settle(error)
        except Exception as error:  # noqa: BLE001 - the fail-open edge: becomes a DetectorError
            failure = DetectorError(f"{detector.name}: raised {type(error).__name__}")
            failure.__cause__ = error
            self.settle(failure)

    def settle(self, answer: object) -> None:
        """Once; a caller that left hears nothing."""
        with suppress(InvalidStateError):
            if isinstance(answer, DetectorError):
                self.set_exception(answer)
            else:
                self.set_result(answer)


def own_detector(given: object, seconds: float) -> Guarded:
    """A user's detector, guarded. ``seconds`` is how long it may take for one text.

    Raises ``PolicyError`` for what could never answer: the guard would let every response pass.
    """
    if isinstance(given, type):
        name = given.__name__
        raise PolicyError(f"detector must be an instance, not the class {name}; write {name}()")
    kind = type(given).__name__
    if not isinstance(given, Detector):
        raise PolicyError(
            "detector must have name, blocking and classify(), as demur.detection.Detector says; "
            f"{kind} has not"
        )
    if inspect.iscoroutinefunction(given.classify):
        raise PolicyError(
            f"detector: {kind}.classify is a coroutine, and threads cannot await it; write a plain "
            "one, and an aclassify beside it for event loops"
        )
    if not _takes_what_it_is_asked(given.classify):
        raise PolicyError(
            f"detector: {kind}.classify cannot be called as it will be; write "
            "def classify(self, evidence, *, final=True)"
        )
    return Guarded(given, seconds)


def _takes_what_it_is_asked(classify: Callable[..., object]) -> bool:
    try:
        inspect.signature(classify).bind(Evidence(), final=True)
    except TypeError:
        return False
    except ValueError:
        return True  # compiled code may tell no signature
    return True

"""The fail-open edge of detection: whatever a detector does, a caller gets an answer in time."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import replace
from numbers import Real
from typing import Final, cast, get_args

from ..errors import DetectorError
from ..vocabulary import LABELS, Evidence, Kind, Verdict
from . import Detector

HUNG_LIMIT: Final = 8
"""Calls past their deadline that may still run; beyond that a detector is not called."""

_log = logging.getLogger("demur")


class Guarded:
    """A detector that answers in shape and in time, or raises ``DetectorError``.

    A detector that may block runs in a thread of its own for at most ``seconds``. The thread is a
    daemon, so one that hangs for ever does not keep the interpreter from exiting. Others run
    inline. Safe to call from many threads; from asyncio call it in a thread if it is ``blocking``.
    What goes wrong is logged by its type alone, since an exception's message may quote the text.
    """

    def __init__(self, detector: Detector, seconds: float, *, hung_limit: int = HUNG_LIMIT) -> None:
        self._detector = detector
        self._seconds = seconds
        self._hung_limit = hung_limit
        self._hung = 0
        self._lock = threading.Lock()
        self.name: Final = str(detector.name)
        self.blocking: Final = bool(detector.blocking)

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        call = _Call(self._detector, evidence, final)
        try:
            if self.blocking:
                self._run_in_thread(call)
            else:
                call.run()
            return self._checked(call.result(), final=final)
        except DetectorError as error:
            _log.warning("%s", error)
            raise

    def _run_in_thread(self, call: _Call) -> None:
        with self._lock:
            if self._hung >= self._hung_limit:
                raise DetectorError(
                    f"{self.name}: not asked, {self._hung} earlier calls have not returned"
                )
        thread = threading.Thread(
            target=self._run, args=(call,), name=f"demur-{self.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise DetectorError(f"{self.name}: no thread could be started") from error
        if call.done.wait(self._seconds):
            return
        with self._lock:
            if call.done.is_set():
                return
            call.abandoned = True
            self._hung += 1
        raise DetectorError(f"{self.name}: no answer within {self._seconds:g} s")

    def _run(self, call: _Call) -> None:
        try:
            with suppress(SystemExit):  # it would end this thread alone, without an answer
                call.run()
        finally:
            with self._lock:
                call.done.set()
                self._hung -= call.abandoned

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
        if kind is not None and not (isinstance(kind, str) and kind in get_args(Kind)):
            raise self._misshapen(f"a kind that is none of {', '.join(get_args(Kind))}")
        if not isinstance(verdict.stage, str) or not verdict.stage.isprintable():
            raise self._misshapen("a stage that is no printable name")
        return replace(verdict, score=float(verdict.score), threshold=float(verdict.threshold))

    def _misshapen(self, what: str) -> DetectorError:
        return DetectorError(f"{self.name}: answered with {what}")


class _Call:
    """One question to a detector, and how it ended."""

    def __init__(self, detector: Detector, evidence: Evidence, final: bool) -> None:
        self._detector = detector
        self._evidence = evidence
        self._final = final
        self._verdict: object = None
        self._error: Exception | None = None
        self.done = threading.Event()
        self.abandoned = False

    def run(self) -> None:
        try:
            self._verdict = self._detector.classify(self._evidence, final=self._final)
        except Exception as error:  # noqa: BLE001 - the fail-open edge: becomes a DetectorError
            self._error = error

    def result(self) -> object:
        if isinstance(self._error, DetectorError):
            raise self._error
        if self._error is not None:
            raise DetectorError(
                f"{self._detector.name}: raised {type(self._error).__name__}"
            ) from self._error
        return self._verdict

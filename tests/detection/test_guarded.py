"""The fail-open edge: whatever a detector does, an answer or a DetectorError comes in time."""

from __future__ import annotations

import contextlib
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

from demur.detection import Detector
from demur.detection.guarded import Guarded, own_detector
from demur.errors import DetectorError, PolicyError
from demur.vocabulary import Evidence, Verdict

SECRET = "the caller's own words"
GOOD = Verdict("refusal", 0.9, "custom", kind="policy")


class Custom:
    """A user's detector that does what a function does."""

    name = "custom"

    def __init__(self, act: Callable[[], Any], *, blocking: bool = False) -> None:
        self.act = act
        self.blocking = blocking
        self.threads: set[threading.Thread] = set()

    def classify(self, evidence: Evidence, *, final: bool = True) -> Any:
        self.threads.add(threading.current_thread())
        return self.act()


def guard(act: Callable[[], Any], *, blocking: bool = False, seconds: float = 5.0) -> Guarded:
    return Guarded(Custom(act, blocking=blocking), seconds)


@pytest.mark.parametrize("blocking", [True, False])
def test_passes_good_verdicts(blocking: bool) -> None:
    """A verdict in shape is passed on, and the guard is a detector of the same name."""
    guarded = guard(lambda: GOOD, blocking=blocking)
    assert isinstance(guarded, Detector)
    assert (guarded.name, guarded.blocking) == ("custom", blocking)
    assert guarded.classify(Evidence(SECRET)) == GOOD


def test_threads() -> None:
    """Only a detector that may block leaves the caller's thread, and into a daemon."""
    inline, apart = Custom(lambda: GOOD), Custom(lambda: GOOD, blocking=True)
    Guarded(inline, 5.0).classify(Evidence())
    Guarded(apart, 5.0).classify(Evidence())
    assert inline.threads == {threading.current_thread()}
    (other,) = apart.threads
    assert other is not threading.current_thread()
    assert other.daemon


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    "error",
    [ValueError(SECRET), MemoryError(), RecursionError(), KeyError(SECRET), StopIteration()],
)
def test_exceptions(blocking: bool, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Any exception becomes a DetectorError that names its type; its message is not logged."""

    def act() -> None:
        raise error

    with caplog.at_level(logging.DEBUG), pytest.raises(DetectorError) as caught:
        guard(act, blocking=blocking).classify(Evidence(SECRET))
    assert str(caught.value) == f"custom: raised {type(error).__name__}"
    assert caught.value.__cause__ is error
    assert [r.levelname for r in caplog.records if r.name == "demur"] == ["WARNING"]
    assert SECRET not in caplog.text


def test_detector_errors_are_kept() -> None:
    """A detector that says itself that it cannot answer is quoted."""

    def act() -> None:
        raise DetectorError("remote: 503")

    with pytest.raises(DetectorError, match="remote: 503"):
        guard(act).classify(Evidence())


async def test_a_method_of_another_meaning() -> None:
    """That a user's detector can submit something has nothing to do with judging."""

    class Sending(Custom):
        def submit(self, form: str) -> str:
            raise NotImplementedError

    guarded = Guarded(Sending(lambda: GOOD, blocking=True), 5.0)
    assert guarded.classify(Evidence()) == await guarded.aclassify(Evidence()) == GOOD


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (None, True),
        ("refusal", True),
        ({"label": "refusal"}, True),
        (Verdict("uncertain", 0.5, "s"), True),
        (Verdict("spam", 0.5, "s"), False),  # type: ignore[arg-type]
        (Verdict("normal", math.nan, "s"), True),
        (Verdict("normal", math.inf, "s"), True),
        (Verdict("normal", -0.1, "s"), True),
        (Verdict("normal", 1.1, "s"), True),
        (Verdict("normal", 10**400, "s"), True),
        (Verdict("normal", "0.5", "s"), True),  # type: ignore[arg-type]
        (Verdict("normal", None, "s"), True),  # type: ignore[arg-type]
        (Verdict("normal", 0.5, "s", threshold=math.nan), True),
        (Verdict("refusal", 0.5, "s", kind="rude"), True),  # type: ignore[arg-type]
        (Verdict("normal", 0.5, "s\r\nx-demur-label: refusal"), True),
        (Verdict("normal", 0.5, 7), True),  # type: ignore[arg-type]
        (Verdict([], 0.5, "s"), True),  # type: ignore[arg-type]
    ],
)
def test_answers_out_of_shape(answer: object, final: bool) -> None:
    """A lie in shape is an error that quotes nothing of it."""
    with pytest.raises(DetectorError, match="custom: answered with"):
        guard(lambda: answer).classify(Evidence(), final=final)


def test_numpy_scores_become_floats() -> None:
    """Scores of numpy's types are taken and made plain, so that records can be written."""
    import numpy as np

    verdict = guard(lambda: Verdict("refusal", np.float32(0.75), "s")).classify(Evidence())
    assert type(verdict.score) is float
    assert verdict.score == 0.75


def test_prefixes_may_be_uncertain() -> None:
    """Uncertain is in shape for a prefix."""
    verdict = Verdict("uncertain", 0.5, "s")
    assert guard(lambda: verdict).classify(Evidence(), final=False) == verdict


def test_deadline_and_hung_calls() -> None:
    """A call that hangs costs its deadline; when too many hang no more are made, until some end."""
    release = threading.Event()
    calls: list[int] = []

    def act() -> Verdict:
        calls.append(1)
        release.wait(30)
        return GOOD

    guarded = Guarded(Custom(act, blocking=True), 0.05, hung_limit=2)
    for _ in range(2):
        start = time.perf_counter()
        with pytest.raises(DetectorError, match=r"no answer within 0\.05 s"):
            guarded.classify(Evidence())
        assert 0.04 < time.perf_counter() - start < 2.0
    start = time.perf_counter()
    with pytest.raises(DetectorError, match="2 earlier calls have not returned"):
        guarded.classify(Evidence())
    assert time.perf_counter() - start < 0.04
    assert len(calls) == 2
    release.set()
    deadline = time.perf_counter() + 10
    verdict = None
    while verdict is None and time.perf_counter() < deadline:
        with contextlib.suppress(DetectorError):
            verdict = guarded.classify(Evidence())
    assert verdict == GOOD


def test_many_callers_are_not_hung() -> None:
    """Any number of calls in time may run at once."""
    together = threading.Barrier(20)

    def act() -> Verdict:
        together.wait(10)
        return GOOD

    guarded = Guarded(Custom(act, blocking=True), 10.0, hung_limit=2)
    with ThreadPoolExecutor(20) as pool:
        verdicts = list(pool.map(lambda _: guarded.classify(Evidence()), range(20)))
    assert verdicts == [GOOD] * 20


def test_a_thread_that_ends_without_an_answer() -> None:
    """SystemExit in a detector ends its thread, not the wait for it."""

    def act() -> None:
        sys.exit(3)

    with pytest.raises(DetectorError, match="instead of a Verdict"):
        guard(act, blocking=True, seconds=30.0).classify(Evidence())


async def test_from_asyncio() -> None:
    """Called in a thread the loop stays free while a detector hangs."""
    release = threading.Event()

    def act() -> Verdict:
        release.wait(30)
        return GOOD

    guarded = guard(act, blocking=True, seconds=0.2)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        with pytest.raises(DetectorError):
            await anyio.to_thread.run_sync(guarded.classify, Evidence())
        group.cancel_scope.cancel()
    release.set()
    assert ticks > 5


def test_a_hung_detector_does_not_keep_the_interpreter() -> None:
    """A program whose detector hangs for ever still ends."""
    program = (
        "import threading\n"
        "from demur.detection.guarded import Guarded\n"
        "from demur.errors import DetectorError\n"
        "from demur.vocabulary import Evidence\n"
        "class Hangs:\n"
        "    name, blocking = 'hangs', True\n"
        "    def classify(self, evidence, *, final=True): threading.Event().wait()\n"
        "try: Guarded(Hangs(), 0.05).classify(Evidence())\n"
        "except DetectorError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "hangs: no answer within 0.05 s\n"


class Hasty:
    """Of a user who has not heard of ``final``."""

    name = "hasty"
    blocking = False

    def classify(self, evidence: Evidence) -> Verdict:
        return GOOD


class Lazy(Hasty):
    """Of a user who thinks that classify is awaited."""

    async def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:  # type: ignore[override]
        return GOOD


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (5, "name, blocking and classify.*int has not"),
        (Custom, "an instance, not the class Custom"),
        (Hasty(), r"Hasty.*classify\(self, evidence, \*, final=True\)"),
        (Lazy(), "Lazy.*aclassify"),
    ],
)
def test_what_cannot_be_asked_is_refused(given: Any, told: str) -> None:
    """A detector that could answer nothing is told when it is given, not at every response."""
    with pytest.raises(PolicyError, match=told):
        own_detector(given, 5.0)


def test_what_can_be_asked_is_guarded() -> None:
    """A detector of any signature that takes what it is asked with is taken, and guarded."""

    class Anything(Custom):
        def classify(self, *given: Any, **more: Any) -> Any:
            return super().classify(*given, **more)

    for own in (Custom(lambda: GOOD), Anything(lambda: GOOD)):
        assert own_detector(own, 5.0).classify(Evidence(SECRET)) == GOOD

"""How threads take turns while the encoder reads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from demur.detection import encoder
from demur.detection.embedded import EmbeddedDetector
from demur.detection.turns import SECONDS, short_turns

OWN = 0.004
MICROSECOND = 1.1e-6
"""The interpreter keeps whole ones."""


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(OWN)
    yield
    sys.setswitchinterval(before)


def test_turns_are_short_for_as_long_as_anyone_needs_it() -> None:
    """Two that overlap, on threads of their own: the last to end puts back what was."""
    first, entered, leave = short_turns(), threading.Event(), threading.Event()

    def other() -> None:
        with short_turns():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with first:
        thread.start()
        assert entered.wait(10)
    assert sys.getswitchinterval() == pytest.approx(SECONDS, abs=MICROSECOND)
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == pytest.approx(OWN)


def test_they_end_with_an_error_too() -> None:
    """What fails within leaves nothing behind."""
    with pytest.raises(KeyError), short_turns():
        raise KeyError
    assert sys.getswitchinterval() == pytest.approx(OWN)


@pytest.mark.parametrize("seconds", [0.002, SECONDS / 2])
def test_anothers_setting_is_kept(seconds: float) -> None:
    """What the program sets meanwhile is its own; so is what was shorter from the beginning."""
    with short_turns():
        sys.setswitchinterval(seconds)
    assert sys.getswitchinterval() == pytest.approx(seconds, abs=MICROSECOND)
    with short_turns():
        assert sys.getswitchinterval() <= SECONDS + MICROSECOND
    assert sys.getswitchinterval() == pytest.approx(seconds, abs=MICROSECOND)


def test_the_encoder_reads_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy event loop does not keep the thread waiting for 5 ms at every step of any layer."""
    second = EmbeddedDetector.load().second
    assert second is not None
    seen: list[float] = []
    normed = encoder._normed

    def noting(*given: Any) -> Any:
        seen.append(sys.getswitchinterval())
        return normed(*given)

    monkeypatch.setattr(encoder, "_normed", noting)
    second.encoder.outputs("i'd rather not.")
    steps = 1 + 2 * len(second.encoder.layers)
    assert seen == pytest.approx([SECONDS] * steps, abs=MICROSECOND)
    assert sys.getswitchinterval() == pytest.approx(OWN)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_turns() -> None:
    """A child of a process that was reading begins as the program set it, and can read."""
    with short_turns():
        child = os.fork()
        if not child:
            restored = abs(sys.getswitchinterval() - OWN) < SECONDS
            with short_turns():
                short = sys.getswitchinterval() <= SECONDS + MICROSECOND
            os._exit(0 if restored and short else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

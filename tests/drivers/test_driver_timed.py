"""Calls that cannot be stopped, and are not waited for longer than asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from contextvars import ContextVar

import pytest

from demur.drivers.timed import call_within

said: ContextVar[str] = ContextVar("said")


def never(_: object) -> None:
    raise AssertionError("nothing is to be dropped")


def test_what_comes_in_time() -> None:
    """It is returned, or raised, as if the call had been made here."""
    said.set("here")
    assert call_within(60.0, said.get, never) == "here"
    with pytest.raises(ZeroDivisionError):
        call_within(60.0, lambda: 1 // 0, never)


@pytest.mark.parametrize("fails", [False, True])
def test_what_comes_too_late(fails: bool) -> None:
    """The caller goes on at once; what the call brings is dropped when it comes."""
    may_end, dropped = threading.Event(), futures.Future[str]()

    def call() -> str:
        assert may_end.wait(60)
        if fails:
            raise ZeroDivisionError
        return "late"

    drop: Callable[[str], object] = never if fails else dropped.set_result
    with pytest.raises((TimeoutError, futures.TimeoutError)):
        call_within(0.01, call, drop)
    may_end.set()
    if not fails:
        assert dropped.result(60) == "late"

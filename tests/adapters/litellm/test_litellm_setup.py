"""A policy file in use: the thread that watches it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

pytest.importorskip("litellm")

from demur.adapters.litellm import setup
from demur.adapters.litellm.setup import PolicyFile, Setup

POLICY = "version: 1\nmode: {mode}\n"


def test_a_watch_that_cannot_start_is_started_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threadless: Callable[[], AbstractContextManager[None]],
) -> None:
    """The policy is used all the same, and its edits from the first time a thread could start."""
    monkeypatch.setattr(setup, "LOOK_SECONDS", 0.01)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    found: list[str] = []
    changed = threading.Event()

    def note(new: Setup) -> None:
        found.append(new.policy.mode)
        changed.set()

    file = PolicyFile(path, None, note)
    with threadless():
        assert file.current.policy.mode == "enforce"
    path.write_text(POLICY.format(mode="shadow"))
    assert file.current.policy.mode == "enforce"
    assert changed.wait(10)
    assert found == ["shadow"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_watches_too(tmp_path: Path) -> None:
    """A server's workers take over edits, though it had the policy before they were forked."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    file = PolicyFile(path, None, lambda _: None)
    assert file.current is file.current
    if not (child := os.fork()):
        assert file.current is file.current
        os._exit([t.name for t in threading.enumerate()].count("demur-policy") != 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

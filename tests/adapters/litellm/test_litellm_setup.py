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
from demur.policy import Policy, load_policy

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
    _ = file.current
    assert changed.wait(10)
    assert found == ["shadow"]


def test_a_version_that_could_not_be_used_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it lacked may come later; meanwhile that is told once, and tried ever more rarely."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    file = PolicyFile(path, None, lambda _: None)
    text = POLICY.format(mode="shadow") + "audit: {{path: {folder}/audit.jsonl}}\n"
    path.write_text(text.format(folder=tmp_path / "late"))
    for _ in range(200):
        file.look()
    assert file.current.policy.mode == "enforce"
    assert told(caplog) == 1
    (tmp_path / "late").mkdir()
    for _ in range(setup.MOST_LOOKS_APART):
        file.look()
    assert file.current.policy.mode == "shadow"
    assert told(caplog) == 1


def test_how_often_a_version_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version at once, the same one less and less."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    file = PolicyFile(path, None, lambda _: None)
    tries = []

    def broken(path: Path) -> None:
        tries.append(path)
        raise RuntimeError

    monkeypatch.setattr(setup, "load_policy", broken)
    for _ in range(2):
        path.write_text(POLICY.format(mode="shadow") + "#" * (1 + len(tries)))
        tries.clear()
        for _ in range(100):
            file.look()
        assert 5 <= len(tries) <= 10


def look(file: PolicyFile) -> None:
    """Look until a version that stays is taken over."""
    for _ in range(2):
        file.look()


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum("the new policy is not used" in r.getMessage() for r in caplog.records)


def test_a_file_put_back_in_place_is_seen(tmp_path: Path) -> None:
    """Also one of the same length, place and time of writing, as some tools leave behind."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nmode: shadow \n")
    file = PolicyFile(path, None, lambda _: None)
    before = path.stat()
    path.write_text("version: 1\nmode: enforce\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    look(file)
    assert file.current.policy.mode == "enforce"


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    """The half of a policy may be a policy too, which nobody wrote: it waits for the rest."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    seen: list[str] = []
    file = PolicyFile(path, None, lambda new: seen.append(new.policy.mode))
    whole = POLICY.format(mode="shadow")
    for end in (0, whole.index("mode"), len(whole)):
        path.write_text(whole[:end])
        file.look()
        assert file.current.policy.mode == "enforce"
    file.look()
    assert seen == ["shadow"]


def test_a_file_that_is_written_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read then is not used."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    file = PolicyFile(path, None, lambda _: None)
    path.write_text("version: 1\n")
    load = setup.load_policy

    def interrupted(path: Path) -> Policy:
        found = load(path)
        path.write_text("version: 1\nmode: shadow\n")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(setup, "load_policy", interrupted)
        look(file)
    before = file.current.policy
    look(file)
    assert before.fingerprint == load_policy({"version": 1, "mode": "enforce"}).fingerprint
    assert file.current.policy.mode == "shadow"


def test_a_file_that_is_gone_for_a_moment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As while an editor saves it: nobody is told."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    file = PolicyFile(path, None, lambda _: None)
    path.unlink()
    file.look()
    path.write_text(POLICY.format(mode="shadow"))
    look(file)
    assert (file.current.policy.mode, told(caplog)) == ("shadow", 0)


def test_a_file_that_is_written_again_and_again(tmp_path: Path) -> None:
    """As by a tool that renders it anew all the time: what it says counts, and not when it was
    written. What says something else each time does not wait for ever."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(mode="enforce"))
    seen: list[str] = []
    file = PolicyFile(path, None, lambda new: seen.append(new.policy.mode))
    for number in range(5):
        replace(path, POLICY.format(mode="shadow"), number)
        file.look()
    assert seen == ["shadow"]
    for number in range(2 * setup.MOST_CHANGES):
        replace(path, POLICY.format(mode="enforce") + f"# {number}\n", number)
        file.look()
    assert seen == ["shadow", "enforce", "enforce"]


def replace(path: Path, text: str, second: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, (second, second))
    new.replace(path)


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

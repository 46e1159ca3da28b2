"""A short storm with every run of the tests; the long one has a command of its own."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from .__main__ import load, main, report
from .oracle import Ending, wrong
from .scenario import scenario
from .sighting import Sighting
from .storm import State, Storm


async def test_nothing_is_lost_mixed_leaked_or_left_open() -> None:
    """400 requests, blocking and asynchronous, under every fault: each ends as it may."""
    with warnings.catch_warnings():
        # What earlier tests in this process have left open is not the storm's.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    state = State(seed=1)
    await Storm(state, batch=200, tasks=100).run(400)
    assert state.done == 400
    assert not state.violations, state.examples
    assert {"served a", "served b", "served c", "left", "RefusedError"} <= set(state.seen)


def test_the_oracle_knows_wrong_from_right() -> None:
    """Each kind of fault is called by its name, and a right answer by none."""
    made = scenario(1, 0)
    allowed = [Ending("b", "b0.0 b0.1")]

    def of(text: str, *models: str, error: str | None = None, left: bool = False) -> str | None:
        return wrong(made, Sighting(text, set(models), error, left=left), allowed)

    assert of("b0.0 b0.1", "b") is None
    assert of("b0.0", "b", left=True) is None
    assert of("b0.0", "b") == "lost"
    assert of("b0.0 b0.0", "b") == "lost"
    assert of("b0.0 b0.1", "a", "b") == "mixed"
    assert of("I'm sorry", "a") == "leaked"
    assert of("I'm sorry", "a", left=True) == "leaked"
    assert of("b0.0 b0.1", "b", error="ValueError") == "error"


def test_a_scenario_depends_on_seed_and_number_alone() -> None:
    """Both processes of a storm can work it out; another seed gives another storm."""
    assert [scenario(3, i) for i in range(50)] == [scenario(3, i) for i in range(50)]
    assert [scenario(3, i) for i in range(50)] != [scenario(4, i) for i in range(50)]


@pytest.mark.parametrize(
    ("kept", "megabytes", "status"), [(0.1, 0.0005, 0), (3.0, 0.0, 1), (0.1, 0.002, 1)]
)
def test_what_requests_keep_fails_the_storm(kept, megabytes, status, capsys) -> None:
    """Some objects a request, or 2 kB of what is none; not the noise of pools and the allocator."""
    looks = range(2_000, 42_000, 2_000)
    memory = [(done, 400 + megabytes * done) for done in looks]
    objects = [(done, 700_000 + kept * done) for done in looks]
    assert report(State(1, 40_000, 1.0, memory=memory, objects=objects)) == status
    assert f"{kept:+.2f} kept a request" in capsys.readouterr().out


def test_the_command_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    """A second call goes on where the state file of the first one stopped."""
    path = tmp_path / "storm.json"
    for requests in ("20", "30"):
        command = ["storm", "--requests", requests, "--batch", "20", "--resume", str(path)]
        monkeypatch.setattr("sys.argv", command)
        assert main() == 0, capsys.readouterr().out
    assert "30 requests, seed 7" in capsys.readouterr().out
    assert load(path, 7).done == 30

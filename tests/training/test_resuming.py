"""A training run that is cut short goes on where it was, to the same files, bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_stage import EMBEDDED, TRANSFORMER, contents, stage

from demur.errors import InputError
from demur.training.recipe import recipe_of

pytest.importorskip("torch")
pytest.importorskip("transformers")

ENCODER = {"depth": 1, "pieces": 100, "texts": 400, "batch": 4, "head": 20, "tail": 8}
NETWORK = {
    **EMBEDDED,
    "fit": {**EMBEDDED["fit"], "epochs": 2, "texts": 100, "teachers": 2},
    "augment": {"templates": 60, "written": 0.3},
    "encoder": ENCODER,
}
DEMUR = str(Path(sys.executable).with_name("demur"))


class Cut(BaseException):
    """Ends a run as abruptly as an exception can."""


def cut_at(name: str, step: int) -> Callable[[str], Any]:
    """A stage whose run ends at a step of the stage ``name``."""

    def begin(stage: str) -> Callable[[int, int, float], None]:
        def move(done: int, total: int, loss: float) -> None:
            if stage == name and done >= step:
                raise Cut

        return move

    return begin


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint a step need not reach the disk here, only in the commands that are killed."""
    monkeypatch.setattr("demur.training.checkpoints.os.fsync", lambda number: None)


@pytest.fixture(scope="module")
def embedded(plain_data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Builds the small embedded model, and what it gives undisturbed."""
    from demur.training.building import build

    def run(into: Path, begin: Callable[[str], Any] = stage, **options: Any) -> Path:
        return build(recipe_of(NETWORK), plain_data, into, begin, start=start, **options)

    return run, contents(run(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def tuned(plain_data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fine-tunes the small classifier, and what it gives undisturbed."""
    from demur.training.building import build

    def run(into: Path, begin: Callable[[str], Any] = stage, **options: Any) -> Path:
        recipe = recipe_of({**TRANSFORMER, "base": str(base)})
        return build(recipe, plain_data, into, begin, **options)

    return run, contents(run(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("reading", 5), ("teacher 1 of 2", 3), ("teacher 1 of 2", 5), ("teacher 2 of 2", 8),
        ("network", 4), ("encoder", 1), ("encoder", 41), ("encoder", 77),
    ],
)  # fmt: skip
def test_an_embedded_run_goes_on(embedded: Any, tmp_path: Path, name: str, step: int) -> None:
    """Wherever it is cut: within an epoch, at its end, between networks, between the stages."""
    run, whole = embedded
    with pytest.raises(Cut):
        run(tmp_path, cut_at(name, step), seconds=0)
    assert not (tmp_path / "embedded_v1").exists()
    assert contents(run(tmp_path)) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["embedded_v1"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("training", 1), ("training", 7), ("training", 12), ("measuring", 1), ("calibrating", 1),
    ],
)  # fmt: skip
def test_a_fine_tuning_goes_on(tuned: Any, tmp_path: Path, name: str, step: int) -> None:
    """Wherever it is cut: within an epoch, at its end, while it is measured or calibrated."""
    run, whole = tuned
    with pytest.raises(Cut):
        run(tmp_path, cut_at(name, step), seconds=0)
    assert not (tmp_path / "small_v1").exists()
    assert contents(run(tmp_path)) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["small_v1"]


def test_a_run_may_be_cut_again_and_again(tuned: Any, tmp_path: Path) -> None:
    """Each time it goes on from the last checkpoint, and says so."""
    run, whole = tuned
    lines: list[str] = []
    for step in (4, 9, 20, 30):
        with pytest.raises(Cut):
            run(tmp_path, cut_at("training", step), seconds=0, tell=lines.append)
    assert contents(run(tmp_path, tell=lines.append)) == whole
    assert sum("goes on with the unfinished run" in line for line in lines) == 4


def test_old_checkpoints_do_as_well(tuned: Any, tmp_path: Path) -> None:
    """Where the last steps were not kept they are taken again, to the same weights."""
    run, whole = tuned
    with pytest.raises(Cut):
        run(tmp_path, cut_at("training", 20), seconds=3600)
    assert contents(run(tmp_path)) == whole


def test_checkpoints_are_plain_files(tuned: Any, tmp_path: Path) -> None:
    """Safetensors and JSON alone, and nothing half-written."""
    from safetensors import safe_open

    run, _ = tuned
    with pytest.raises(Cut):
        run(tmp_path, cut_at("training", 15), seconds=0)
    files = [p for p in (tmp_path / "small_v1.unfinished").iterdir() if p.is_file()]
    assert sorted(p.name for p in files) == [
        "best.safetensors",
        "run.json",
        "training.safetensors",
    ]
    with safe_open(tmp_path / "small_v1.unfinished" / "training.safetensors", "pt") as file:
        assert json.loads(file.metadata()["state"])["done"] == 14


@pytest.fixture
def unfinished(tuned: Any, tmp_path: Path) -> Path:
    with pytest.raises(Cut):
        tuned[0](tmp_path, cut_at("training", 15), seconds=0)
    return tmp_path / "small_v1.unfinished"


def test_another_recipe_is_not_gone_on_with(
    unfinished: Path, plain_data: Path, base: Path, tmp_path: Path
) -> None:
    """An unfinished run of another recipe is neither mixed in nor lost, unless one says so."""
    from demur.training.building import build

    other = recipe_of({**TRANSFORMER, "base": str(base), "seed": 7})
    with pytest.raises(InputError, match=r"another recipe.*--restart"):
        build(other, plain_data, tmp_path, stage)
    assert (unfinished / "training.safetensors").is_file()
    assert build(other, plain_data, tmp_path, stage, resume=False).is_dir()
    assert not unfinished.exists()


def test_other_data_is_not_gone_on_with(
    unfinished: Path, data: Path, base: Path, tmp_path: Path
) -> None:
    """The data's rows count, not their files' names."""
    from demur.training.building import build

    recipe = recipe_of({**TRANSFORMER, "base": str(base)})
    with pytest.raises(InputError, match="another data"):
        build(recipe, data, tmp_path, stage)


def test_a_damaged_checkpoint_is_named(unfinished: Path, tuned: Any, tmp_path: Path) -> None:
    """A file that was cut is named, with the way out, which works."""
    run, whole = tuned
    path = unfinished / "training.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"training\.safetensors: a damaged checkpoint.*--restart"):
        run(tmp_path)
    (unfinished / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json.*--restart"):
        run(tmp_path)
    assert contents(run(tmp_path, resume=False)) == whole


def test_a_full_disk_is_told_and_costs_no_step(tuned: Any, tmp_path: Path) -> None:
    """Checkpoints that do not fit are an error that says what to do; then the run goes on."""
    resource = pytest.importorskip("resource")
    run, whole = tuned
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(InputError, match=r"safetensors: cannot be written: .*; make room"):
            run(tmp_path, seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert contents(run(tmp_path)) == whole


def test_what_was_half_written_is_not_read(unfinished: Path, tuned: Any, tmp_path: Path) -> None:
    """A crash while a checkpoint is written leaves the one before."""
    run, whole = tuned
    (unfinished / "training.safetensors.part").write_bytes(b"half")
    assert contents(run(tmp_path)) == whole


@pytest.fixture(scope="module")
def command(plain_data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    fit = {**TRANSFORMER["fit"], "epochs": 12}
    recipe.write_text(yaml.safe_dump({**TRANSFORMER, "base": str(base), "fit": fit}))
    return [
        DEMUR, "train", str(recipe), "--data", str(plain_data), "--every", "0", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def commanded(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command gives undisturbed."""
    into = tmp_path_factory.mktemp("whole")
    assert "goes on" not in _train([*command, "--into", str(into)])
    return contents(into / "small_v1")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_goes_on(
    command: list[str], commanded: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    """kill -9 and Ctrl-C in the midst of a run, and the same command again."""
    into = tmp_path / "cut"
    with subprocess.Popen(
        [*command, "--into", str(into)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heeding,
    ) as process:
        kept = _when(into / "small_v1.unfinished" / "best.safetensors", process)
        os.kill(process.pid, how)
        _, errors = process.communicate(timeout=60)
    assert kept
    assert not (into / "small_v1").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert b"interrupted; the same command goes on where it was" in errors
    else:
        assert process.returncode == -signal.SIGKILL
    again = _train([*command, "--into", str(into)])
    assert "goes on with the unfinished run" in again
    assert contents(into / "small_v1") == commanded


def _heeding() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _train(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _when(path: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether the file came to be while the process ran."""
    for _ in _for(60.0):
        if path.is_file():
            return True
        if process.poll() is not None:
            return False
    return False


def _for(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.005)

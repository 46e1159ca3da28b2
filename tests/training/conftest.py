"""Files that the tests of training share."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_stage import plain_rows, rows_like, write_base, write_rows, write_start

from demur.training.rows import Row


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several would wait for each other on a busy machine, and such small networks gain nothing."""
    if importlib.util.find_spec("torch"):
        importlib.import_module("torch").set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def few_written() -> Iterator[None]:
    """One in twenty of the rows written by hand: to judge all of them takes longer than to train.

    Commands that are run as such have them all.
    """
    from demur.training import material

    whole = material.written_rows

    def thinned() -> tuple[list[Row], list[Row]]:
        train, develop = whole()
        return train[::20], develop[::20]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "written_rows", thinned)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder, rows_like(400))
    return folder


@pytest.fixture(scope="session")
def plain_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_rows(folder, plain_rows(240))
    return folder


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "model.bin"
    write_start(path)
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder

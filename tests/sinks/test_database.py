"""The audit log in a database, between processes that fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demur.sinks import to_record
from demur.sinks.database import DatabaseWriter, table
from demur.vocabulary import Outcome

pytest.importorskip("sqlalchemy")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_connections_of_its_own(tmp_path: Path) -> None:
    """Two processes on one connection would write into each other's rows."""
    writer = DatabaseWriter(f"sqlite:///{tmp_path / 'audit.db'}")
    writer._engine.connect().close()
    assert "Connections in pool: 1" in writer._engine.pool.status()
    if not (child := os.fork()):
        os._exit("Connections in pool: 0" not in writer._engine.pool.status())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "Connections in pool: 1" in writer._engine.pool.status()
    writer.close()


@pytest.mark.parametrize(
    ("dialect", "kind"), [("mysql", "MEDIUMTEXT"), ("postgresql", "TEXT"), ("sqlite", "TEXT")]
)
def test_a_record_with_all_its_content_fits(dialect: str, kind: str) -> None:
    """MySQL's plain TEXT ends at 64 KiB; one that is longer would cost its whole batch."""
    from sqlalchemy.dialects import registry
    from sqlalchemy.schema import CreateTable

    told = str(CreateTable(table()).compile(dialect=registry.load(dialect)()))
    assert f"record {kind} NOT NULL" in told


@pytest.mark.skipif(os.name != "posix", reason="needs rights of files")
def test_its_owner_alone_can_read_a_new_file(tmp_path: Path) -> None:
    """A SQLite file may hold what models answered, as the file of lines may; one there is kept."""
    before = os.umask(0o022)
    try:
        for name in ("new.db", "old.db"):
            path = tmp_path / name
            if name == "old.db":
                path.touch(0o640)
            writer = DatabaseWriter(f"sqlite:///{path}")
            writer([to_record(Outcome("chat", "m", "accepted", id="1"))])
            writer.close()
        rights = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new.db", "old.db")]
        assert rights == [0o600, 0o640]
    finally:
        os.umask(before)

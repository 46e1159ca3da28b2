"""The audit log in a database, between processes that fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demur.sinks.database import DatabaseWriter

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

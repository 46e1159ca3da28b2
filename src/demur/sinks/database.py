"""Records as rows of a database, through SQLAlchemy."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, PolicyError
from ..forking import renewed_in_children
from .background import NotNowError

if TYPE_CHECKING:
    import sqlalchemy

TABLE = "demur_audit"


class DatabaseWriter:
    """Inserts into the table ``demur_audit``, which is created where it is missing, as is the file
    of a SQLite database, for its owner alone.

    Beside the whole record, as JSON text, stand the columns that people ask for. Connects with the
    first batch, so a database that is away delays no start.
    """

    def __init__(self, url: str) -> None:
        self._engine = engine_for(url)
        self._table = table()
        self._ready = False
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``. Open connections are the parent's."""
        self._engine.dispose(close=False)

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> None:
        from sqlalchemy.exc import InterfaceError, OperationalError

        try:
            if not self._ready:
                _begin_unread(sqlite_file(self._engine))
                self._table.metadata.create_all(self._engine)
                self._ready = True
            with self._engine.begin() as connection:
                connection.execute(self._table.insert(), [_row(record) for record in batch])
        except (OperationalError, InterfaceError) as error:
            raise NotNowError(type(error.orig).__name__) from error

    def close(self) -> None:
        self._engine.dispose()


def engine_for(url: str) -> sqlalchemy.Engine:
    """Raises ``PolicyError`` for a URL that names no database SQLAlchemy can speak to here."""
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise MissingExtraError("sqlalchemy", "sql", "an audit log in a database") from error
    try:
        return create_engine(url, pool_pre_ping=True)
    except (ArgumentError, ValueError) as error:
        raise PolicyError("the audit's database URL cannot be read; see audit.dsn") from error
    except ImportError as error:
        raise PolicyError(
            f"the audit's database needs the package {error.name!r}; pip install it, or name an "
            "installed driver in the URL, as in postgresql+psycopg://…"
        ) from error


def sqlite_file(engine: sqlalchemy.Engine) -> Path | None:
    """The file of a SQLite database; ``None`` for other databases, and where it has no plain name.

    SQLite creates it where it is missing.
    """
    url = engine.url
    name = url.database or ":memory:"
    if url.get_backend_name() != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _begin_unread(path: Path | None) -> None:
    """Make a file that is missing for its owner alone, like an audit log of lines.

    SQLite gives the files that it makes beside it the same rights.
    """
    if path is not None:
        with suppress(OSError):  # what is wrong there SQLite tells as well
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def table() -> sqlalchemy.Table:
    from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text
    from sqlalchemy.dialects.mysql import MEDIUMTEXT

    # MySQL's TEXT ends at 64 KiB, which a long answer exceeds where its content is kept.
    long = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
    return Table(
        TABLE,
        MetaData(),
        Column("number", Integer, primary_key=True),
        Column("id", String(256), index=True),
        Column("time", String(32), index=True),
        Column("requested_model", Text),
        Column("served_model", Text),
        Column("rule", Text),
        Column("ending", String(16)),
        Column("label", String(16)),
        Column("added_seconds", Float),
        Column("record", long, nullable=False),
    )


def url_of(dsn: str | None, dsn_env: str | None) -> str:
    """The database's URL: as it stands, or out of the environment."""
    url = dsn or os.environ.get(dsn_env or "", "")
    if not url:
        raise PolicyError(
            f"audit.dsn_env: the environment variable {dsn_env!r} is not set; "
            "set it to the database's URL"
        )
    return url


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("time", "requested_model", "served_model", "rule", "ending", "label", "added_seconds")
    row = {name: record[name] for name in names}
    return {**row, "id": (record["id"] or "")[:256], "record": json.dumps(record, allow_nan=False)}

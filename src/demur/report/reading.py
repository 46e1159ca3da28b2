"""Audit logs as they were written: files with what was rotated away, or a database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import InputError
from ..lines import FAILURES, json_in, unpacked, unreadable, value_of
from ..sinks.database import TABLE, engine_for, sqlite_file, table
from ..sinks.lines import real, rotated
from .restoring import Entry, restored

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REMEDY: Final = "remove the row"


class AuditLog:
    """Entries of one or more sources, oldest first within each; may be read again and again.

    A source is a file (gzipped or not; ``FILE.1``, ``FILE.2``, … belong to it), a database URL, or
    ``env:NAME`` for a URL in the environment. A file that several sources name is read once.
    ``done`` of ``total`` says how far a reading is, in bytes or rows. ``name`` is what errors call
    it: a URL may hold a password, so only the kind of its database is in it. Raises ``InputError``
    for what cannot be read.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.name = ", ".join(map(_named, sources))
        found = [part for source in sources for part in _parts(source)]
        self._parts = list({part.key: part for part in found}.values())
        self.done = 0

    @cached_property
    def total(self) -> int:
        return sum(part.size for part in self._parts)

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read of the file system: logs with what was rotated away, SQLite's databases."""
        return tuple(part.file for part in self._parts if part.file is not None)

    def __iter__(self) -> Iterator[Entry]:
        before = 0
        for part in self._parts:
            for where, record, position in part:
                self.done = before + position
                yield restored(record, where)
            before += part.size
        self.done = self.total


def _named(source: str) -> str:
    kind, is_url, _ = source.partition("://")
    return f"{kind} database" if is_url and not source.startswith("env:") else source


def _parts(source: str) -> list[_File | _Database]:
    if source.startswith("env:"):
        url = os.environ.get(source[4:], "")
        if not url:
            raise InputError(f"{source}: the variable is not set; set it to the database's URL")
        return [_Database(url, source)]
    if "://" in source:
        return [_Database(source, _named(source))]
    path = Path(source)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name the audit log in it")
    older: list[Path] = []
    written = real(path)
    while (found := rotated(written, len(older) + 1)).is_file():
        older.append(found)
    return [_File(found) for found in (*reversed(older), path)]


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.file: Path | None = path
        self.key = str(path.resolve())
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[tuple[str, Any, int]]:
        number = 0
        try:
            with self._path.open("rb") as file:
                lines = unpacked(file)
                packed = lines is not file
                position = 0
                for number, line in enumerate(lines, start=1):
                    position = file.tell() if packed else position + len(line)
                    if line.strip() and _whole(line):
                        where = f"{self._path}:{number}"
                        yield where, value_of(line, where), position
        except FAILURES as error:
            raise unreadable(self._path, number + 1, error) from error


def _whole(line: bytes) -> bool:
    """Whether a line has come to its end. The last one of a log in use may still be on its way;
    of a record cut short none is JSON."""
    if line.endswith(b"\n"):
        return True
    try:
        value_of(line, "")
    except InputError:
        return False
    return True


class _Database:
    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self.key = url
        self._engine = engine_for(url)
        self._table = table()
        self.file = self._sqlite_file()

    def _sqlite_file(self) -> Path | None:
        """The file of a SQLite database, which SQLite would create if it were missing."""
        file = sqlite_file(self._engine)
        if file is not None and not file.is_file():
            raise InputError(f"{self._name}: there is no file {file}; check the path")
        return file

    @cached_property
    def size(self) -> int:
        from sqlalchemy import func, select

        with self._connected() as connection:
            count = connection.scalar(select(func.count()).select_from(self._table))
        return int(count or 0)

    def __iter__(self) -> Iterator[tuple[str, Any, int]]:
        from sqlalchemy import select

        query = select(self._table.c.number, self._table.c.record).order_by(self._table.c.number)
        with self._connected() as connection:
            rows = connection.execution_options(yield_per=1000).execute(query)
            for position, (number, record) in enumerate(rows, start=1):
                where = f"{self._name}: {TABLE}, row with number {number}"
                if not isinstance(record, str):
                    raise InputError(f"{where}: the record is no text; {_REMEDY}")
                yield where, json_in(record, where, _REMEDY), position

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            # The type alone: a message may quote what is in the database.
            raise InputError(
                f"{self._name}: cannot be read ({type(error).__name__}); is it up, and has demur "
                "written an audit log to it?"
            ) from error
        finally:
            self._engine.dispose()

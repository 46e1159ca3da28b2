"""Audit logs on disk: what belongs to them, and errors that say where they cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from log_stage import week, write_log

from demur.cli import main
from demur.errors import InputError
from demur.report.reading import AuditLog
from demur.sinks import to_record
from demur.sinks.database import DatabaseWriter


def complaint(*sources: object) -> str:
    """The one line that a reading ends with."""
    with pytest.raises(InputError) as caught:
        list(AuditLog([str(source) for source in sources]))
    told = str(caught.value)
    assert "\n" not in told
    return told


def test_a_rotated_file_named_too_is_read_once(tmp_path: Path) -> None:
    """Requests count once, however often and by whatever path their file is named."""
    log = write_log(tmp_path / "a.jsonl", 8)
    older = write_log(tmp_path / "a.jsonl.1", 5)
    for sources in ([log, older], [older, log], [log, tmp_path / "." / "a.jsonl"]):
        assert len(list(AuditLog([str(source) for source in sources]))) == 13
    link = tmp_path / "link.jsonl"
    link.symlink_to(log)
    read = AuditLog([str(link), str(log)])
    assert len(list(read)) == 13
    assert read.done == read.total == log.stat().st_size + older.stat().st_size


@pytest.mark.parametrize("name", [".", "", "/"])
def test_a_directory_is_no_log(name: str, tmp_path: Path) -> None:
    """A directory is named as one, by the command too."""
    assert "is a directory" in complaint(name)
    done = CliRunner().invoke(main, ["report", name, "--html", str(tmp_path / "x.html")])
    assert done.exit_code == 2
    assert "is a directory" in done.output


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    """Gzip data that is broken in its middle, or cut off, gives file and line."""
    packed = gzip.compress(write_log(tmp_path / "a.jsonl", 200).read_bytes())
    bad = tmp_path / "bad.jsonl.gz"
    middle = len(packed) // 2
    for data in (packed[:middle] + bytes(50) + packed[middle + 50 :], packed[:middle]):
        bad.write_bytes(data)
        told = complaint(bad)
        assert told.startswith(f"{bad}:"), told
    bad.write_bytes(packed[:10] + b"\xff" * 40)
    assert complaint(bad) == f"{bad}:1: cannot be read: the gzip data is damaged or cut off"


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    """Reading a SQLite file that is not there is an error and leaves no file."""
    pytest.importorskip("sqlalchemy")
    missing = tmp_path / "missing.db"
    assert str(missing) in complaint(f"sqlite:///{missing}")
    assert not missing.exists()


@pytest.mark.parametrize(
    ("record", "told"),
    [("{no", "not JSON: "), (b"\xff", "no text; "), ("[" * 100_000, "JSON that cannot be read ")],
)
def test_a_damaged_row_is_named(tmp_path: Path, record: Any, told: str) -> None:
    """By its number in the table, and not as a line of a file; with earlier rows gone, too."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    writer = DatabaseWriter(url)
    writer([to_record(outcome) for outcome in week(4)])
    writer.close()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM demur_audit WHERE number = 1"))
        update = sqlalchemy.text("UPDATE demur_audit SET record = :record WHERE number = 3")
        connection.execute(update, {"record": record})
    engine.dispose()
    said = complaint(url)
    assert "demur_audit, row with number 3: " in said
    assert told in said
    assert said.endswith(("remove the row", "remove it"))
    assert "file" not in said


def test_a_database_without_a_log_is_told(tmp_path: Path) -> None:
    """One line, where no bar asks for the number of rows first; no SQL in it."""
    pytest.importorskip("sqlalchemy")
    for name, content in (("junk.db", b"no database at all\n" * 99), ("empty.db", b"")):
        (tmp_path / name).write_bytes(content)
        url = f"sqlite:///{tmp_path / name}"
        assert "has demur written an audit log to it?" in complaint(url)
        done = CliRunner().invoke(main, ["report", url, "--html", str(tmp_path / "x.html")])
        assert done.exit_code == 2
        assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("cut", [0, 1, 2, 100])
def test_a_last_line_that_has_not_come_whole(tmp_path: Path, cut: int) -> None:
    """One that is still being written is left out; one without its line end alone is read."""
    log = write_log(tmp_path / "a.jsonl", 3)
    log.write_bytes(log.read_bytes()[: -cut or None])
    assert len(list(AuditLog([str(log)]))) == (3 if cut < 2 else 2)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """A log that an editor saved with a mark, or that was put together of such, reads the same."""
    log = write_log(tmp_path / "a.jsonl", 3)
    plain = list(AuditLog([str(log)]))
    marked = b"\xef\xbb\xbf" + log.read_bytes()
    log.write_bytes(marked + marked)
    assert list(AuditLog([str(log)])) == plain + plain


@pytest.mark.parametrize(
    "command", ["report --html x.html", "replay --policy p.yaml", "label --out l.jsonl"]
)
def test_a_url_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It may hold a password, and what a command says may be kept in the log of a job."""
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text("version: 1\n")
    url = "sqlite:///audit.db?timeout=5"
    writer = DatabaseWriter(url)
    writer._table.metadata.create_all(writer._engine)
    writer.close()
    name, *options = command.split()
    done = CliRunner().invoke(main, [name, url, *options])
    assert done.exit_code == 2
    assert "sqlite database: holds no" in done.output
    assert url not in done.output

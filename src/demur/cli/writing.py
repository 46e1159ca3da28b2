"""Files and folders that a command writes: usable before it works, and never what it reads."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ..errors import InputError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def reason(error: OSError) -> str:
    """What went wrong, and the remedy where there is one."""
    remedy = "; make room and run it again" if error.errno in FULL else ""
    return f"{error.strerror or error}{remedy}"


def check_output(path: Path | None, reads: Iterable[Path | None]) -> None:
    """Raise ``InputError`` where ``path`` is one of ``reads`` or no file can be written there."""
    if path is None:
        return
    try:
        for read in reads:
            if read is not None and path.is_file() and read.exists() and path.samefile(read):
                raise InputError(f"{path}: is read by this command; name another file to write")
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.is_file():
            with path.open("ab"):
                return
        if path.exists():
            return
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error


def check_folder(folder: Path) -> None:
    """Raise ``InputError`` where ``folder`` cannot be made, or no file be written to it."""
    parent = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written: {reason(error)}; name another folder"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A file to write that takes the place of ``path`` once all of it is written.

    Devices and what links lead to are written in place; what UTF-8 cannot express becomes a
    question mark. Raises ``InputError`` where that fails.
    """
    fixed = path.is_symlink() or not path.is_file() or not os.access(path.parent, os.W_OK)
    in_place = path.exists() and fixed
    draft = path if in_place else path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8", errors="replace") as file:
            yield file
        if not in_place:
            if path.exists():
                shutil.copymode(path, draft)
            draft.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    finally:
        if not in_place:
            draft.unlink(missing_ok=True)

"""Records as JSON lines in a file that is rotated."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ..errors import PolicyError
from .background import NotNowError

try:
    import fcntl
except ImportError:  # Windows: there only one process may write to a file
    fcntl = None  # type: ignore[assignment]

_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)
_WORDS: Final = {errno.ENXIO: "nobody reads this pipe"}


class LinesWriter:
    """Appends to ``path``; beyond ``max_bytes`` it becomes ``path.1``, that ``path.2``, and so on.

    Many processes may share a file: each batch is one append under a lock, and the file is opened
    for each, so others may rotate it too. A batch is written wholly or not at all. A file that
    ``path`` links to is rotated where it is. Raises ``PolicyError`` where the path can never be
    written to.
    """

    def __init__(self, path: str | Path, *, max_bytes: int, keep: int) -> None:
        self.path = real(Path(path).expanduser().absolute())
        self._max_bytes = max_bytes
        self._keep = keep
        if self.path.is_dir():
            raise PolicyError(f"audit.path: {self.path} is a directory; name a file in it")
        if not self.path.parent.is_dir():
            raise PolicyError(
                f"audit.path: the directory {self.path.parent} does not exist; create it first"
            )

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> None:
        data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in batch).encode()
        try:
            self._append(data)
        except OSError as error:
            told = _WORDS.get(error.errno or 0) or error.strerror or str(error)
            raise NotNowError(told) from error

    def close(self) -> None:
        """Nothing is open between batches."""

    def _append(self, data: bytes) -> None:
        while True:
            with self._opened() as file:
                size = os.fstat(file).st_size
                if not self._current(file):
                    continue
                if size and size + len(data) > self._max_bytes:
                    self._rotate()
                    continue
                try:
                    written = os.write(file, data)
                except OSError:
                    written = 0
                    raise
                finally:
                    if written < len(data):
                        with suppress(OSError):  # the first error tells more
                            os.ftruncate(file, size)
                if written < len(data):
                    raise OSError(f"only {written} of {len(data)} bytes were written")
                return

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # Opening a pipe would wait for its reader, where nothing could end or tell of the wait.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _AT_ONCE, 0o600)
        try:
            if fcntl is not None:
                # Once open it is to wait: a pipe takes no more than it has room for at once.
                os.set_blocking(file, True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            if fcntl is not None:
                # A child that was forked meanwhile keeps the file open, and its lock with it.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def _current(self, file: int) -> bool:
        """Whether the open file is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(file), self.path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        # What is older than a free number need not move.
        last = next((n for n in range(1, self._keep) if not rotated(self.path, n).exists()), None)
        for number in range(last or self._keep, 0, -1):
            older = rotated(self.path, number - 1) if number > 1 else self.path
            with suppress(FileNotFoundError):
                older.replace(rotated(self.path, number))


def rotated(path: Path, number: int) -> Path:
    """The name of the ``number``-th youngest of the files that were rotated away."""
    return path.with_name(f"{path.name}.{number}")


def real(path: Path) -> Path:
    """The file that ``path`` links to, there or not. What else it may lead to has no other name."""
    found = path.resolve()
    return found if found.is_file() or not path.exists() else path

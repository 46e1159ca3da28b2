"""Lines of files that may be gzipped: what went wrong in reading them, in words."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Final

from .errors import InputError

FAILURES: Final = (OSError, EOFError, zlib.error)
"""What reading such a file may raise."""


def reason(error: Exception) -> str:
    """Why it could not be read."""
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return "the gzip data is damaged or cut off"
    return getattr(error, "strerror", None) or str(error)


def unreadable(path: Path, line: int, error: Exception) -> InputError:
    """What to raise in place of ``error``; ``line`` counts from 1, and says where damage is."""
    where = f"{path}" if isinstance(error, OSError) and error.strerror else f"{path}:{line}"
    return InputError(f"{where}: cannot be read: {reason(error)}")

"""Lines of JSON, in files that may be gzipped: what went wrong in reading them, in words."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any, Final

from .errors import InputError

_GZIP: Final = b"\x1f\x8b"

FAILURES: Final = (OSError, EOFError, zlib.error)
"""What reading such a file may raise."""


def unpacked(file: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    """The file, or what it holds if that is gzipped, whatever its name."""
    return gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == _GZIP else file


def reason(error: Exception) -> str:
    """Why it could not be read."""
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return "the gzip data is damaged or cut off"
    return getattr(error, "strerror", None) or str(error)


def unreadable(path: Path, line: int, error: Exception) -> InputError:
    """What to raise in place of ``error``; ``line`` counts from 1, and says where damage is."""
    where = f"{path}" if isinstance(error, OSError) and error.strerror else f"{path}:{line}"
    return InputError(f"{where}: cannot be read: {reason(error)}")


def value_of(line: bytes, where: str) -> Any:
    """The JSON value that a line holds; ``InputError`` begins with ``where``.

    A byte order mark may begin it, as where several files were put together.
    """
    try:
        return json_in(line.decode("utf-8-sig"), where, "the file must hold one JSON object a line")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: not UTF-8 text; the file must hold one JSON object a line, in UTF-8"
        ) from error


def json_in(text: str, where: str, remedy: str) -> Any:
    """The JSON value in a text; ``InputError`` begins with ``where`` and ends with ``remedy``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON: {error.msg} at column {error.colno}; {remedy}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: JSON that cannot be read ({type(error).__name__}): a number too long, or "
            "nested too deeply; remove it"
        ) from error


def label_of(row: dict[str, Any], where: str) -> int:
    """What a labelled row says: 1, a refusal, or 0; ``InputError`` begins with ``where``."""
    label = row.get("label")
    if label not in (0, 1):
        told = f"label {json.dumps(label, ensure_ascii=False)}" if "label" in row else "no label"
        raise InputError(
            f"{where}: {told}; it must be 1 (refusal) or 0 (normal), "
            "and of a partial answer partial must be true"
        )
    return int(label)


def partial_of(row: dict[str, Any], where: str) -> bool:
    """Whether a labelled row is a partial answer; ``InputError`` begins with ``where``."""
    partial = row.get("partial")
    if partial not in (None, 0, 1):
        told = json.dumps(partial, ensure_ascii=False)
        raise InputError(f"{where}: partial {told}; it must be true or false")
    return bool(partial)

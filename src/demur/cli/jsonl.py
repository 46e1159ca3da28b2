"""JSON lines from a file or standard input, gzipped or not, with errors that say where."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from typing_extensions import Self

from ..errors import InputError
from ..lines import FAILURES, reason, unpacked, value_of

_MOST_NAMES = 8
_NAME_THE_FIELD: Final = "name the field that holds the response with --field"
ABSENT: Final = object()
"""Where a row has no such field."""


class Lines:
    """The rows of a source, blank lines left out: a context manager to iterate over once.

    ``done`` of ``size`` bytes have been read; ``size`` is ``None`` for standard input (``-``) and
    pipes.
    Raises ``InputError`` with file, line and remedy where the file cannot be read or a line is no
    JSON object.
    """

    def __init__(self, source: str) -> None:
        self.name = "<stdin>" if source == "-" else source
        self.size: int | None = None
        self._file = sys.stdin.buffer

    def __enter__(self) -> Self:
        if self.name != "<stdin>":
            try:
                self._file = Path(self.name).open("rb")
                if Path(self.name).is_file():
                    self.size = Path(self.name).stat().st_size
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read: {reason(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()

    @property
    def done(self) -> int:
        return self._file.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        try:
            for number, line in enumerate(self._plain(), start=1):
                if line.strip():
                    yield number, self._row(line, number)
        except FAILURES as error:
            raise InputError(
                f"{self.name}:{number + 1}: cannot be read: {reason(error)}"
            ) from error

    def _plain(self) -> Iterator[bytes]:
        file = self._file
        buffered = file if hasattr(file, "peek") else io.BufferedReader(cast("Any", file))
        return iter(unpacked(cast("Any", buffered)))

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.name}:{number}"
        row = value_of(line, where)
        if not isinstance(row, dict):
            raise InputError(f"{where}: {kind_of(row)} where one JSON object must stand")
        return row

    def text(
        self, row: dict[str, Any], field: str, number: int, remedy: str = _NAME_THE_FIELD
    ) -> str:
        """See ``text_in``."""
        return text_in(row, field, f"{self.name}:{number}", remedy)


def text_in(row: dict[str, Any], field: str, where: str, remedy: str = _NAME_THE_FIELD) -> str:
    """The text in ``field``; a null is an empty text. A dot goes one level deeper."""
    value, inside = value_in(row, field)
    if value is ABSENT:
        raise InputError(f"{where}: no field {field!r}; {_offered(inside)} {remedy}")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: field {field!r} holds {kind_of(value)}, not a text; {remedy}")
    return value


def value_in(row: Mapping[str, Any], field: str) -> tuple[Any, object]:
    """The value of ``field`` or ``ABSENT``, and what was looked into last."""
    value: Any = row
    inside: object = row
    for key in (field,) if field in row else field.split("."):
        inside = value
        value = value[int(key)] if _has_place(value, key) else _member(value, key)
        if value is ABSENT:
            break
    return value, inside


def kind_of(value: object) -> str:
    """A JSON value in words."""
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _has_place(value: object, key: str) -> bool:
    return isinstance(value, list) and len(key) < 10 and key.isdecimal() and int(key) < len(value)


def _member(value: object, key: str) -> Any:
    return value.get(key, ABSENT) if isinstance(value, dict) else ABSENT


def _offered(value: object) -> str:
    if not isinstance(value, dict) or not value:
        return f"there is {kind_of(value)};"
    names = [repr(name[:40]) for name in list(value)[:_MOST_NAMES]]
    more = ", …" if len(value) > _MOST_NAMES else ""
    return f"there are {', '.join(names)}{more};"

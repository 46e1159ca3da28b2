"""Outcomes as JSON lines in a file."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import datetime, timezone
from pathlib import Path

from ..errors import PolicyError
from ..vocabulary import Outcome
from .record import to_record

_log = logging.getLogger("demur")


class AuditSink:
    """Appends one JSON object a line to ``path``, with the time of writing (UTC).

    Safe to call from many threads and processes: a line is one append. The file is opened for each
    line, so it may be rotated at any time. A disk that fails is logged once until it works again;
    no request fails for it. Raises ``PolicyError`` where the path can never be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        if self.path.is_dir():
            raise PolicyError(f"audit.path: {self.path} is a directory; name a file in it")
        if not self.path.parent.is_dir():
            raise PolicyError(
                f"audit.path: the directory {self.path.parent} does not exist; create it first"
            )
        self._lock = threading.Lock()
        self._failing = False
        self._torn = False

    def __call__(self, record: Outcome) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, **to_record(record)}, allow_nan=False) + "\n"
        with self._lock:
            try:
                self._append(line.encode("ascii"))
            except OSError as error:
                self._tell(error)
            else:
                self._failing = False

    def _append(self, line: bytes) -> None:
        # After a line that was cut off by a full disk, begin a new one.
        data = b"\n" + line if self._torn else line
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = os.write(file, data)
        finally:
            os.close(file)
        if written < len(data):
            self._torn = True
            raise OSError(f"only {written} of {len(data)} bytes were written")
        self._torn = False

    def _tell(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            reason = error.strerror or str(error)
            _log.error("audit log %s cannot be written: %s; records are lost", self.path, reason)

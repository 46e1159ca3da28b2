"""Server-sent events out of bytes, cut anywhere (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import codecs
import re

_LINE_END = re.compile("\r\n|\r|\n")


class SSEReader:
    """An incremental decoder. It never raises: bytes that are no UTF-8 become U+FFFD.

    ``feed`` gives the events completed by its bytes as ``(event, data)``, ``event`` being ``None``
    where the stream names none. ``finish`` gives the event left open at the end of the stream, if
    any: the standard drops it, but some servers leave out the last blank line.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line: list[str] = []
        self._event: str | None = None
        self._data: list[str] = []
        self._skip_line_feed = False
        self._started = False

    def feed(self, data: bytes) -> list[tuple[str | None, str]]:
        return self._read(self._decoder.decode(data))

    def finish(self) -> list[tuple[str | None, str]]:
        events = self._read(self._decoder.decode(b"", final=True))
        if self._line:
            self._field("".join(self._line))
            self._line.clear()
        return events + self._dispatch()

    def _read(self, text: str) -> list[tuple[str | None, str]]:
        if text and not self._started:
            self._started = True
            text = text.removeprefix("\ufeff")
        if self._skip_line_feed and text:
            # The other half of a CRLF that was cut in two.
            self._skip_line_feed = False
            text = text.removeprefix("\n")
        events: list[tuple[str | None, str]] = []
        position = 0
        for end in _LINE_END.finditer(text):
            self._line.append(text[position : end.start()])
            position = end.end()
            events += self._end_line()
        if position < len(text):
            self._line.append(text[position:])
        elif text.endswith("\r"):
            self._skip_line_feed = True
        return events

    def _end_line(self) -> list[tuple[str | None, str]]:
        line = "".join(self._line)
        self._line.clear()
        if not line:
            return self._dispatch()
        self._field(line)
        return []

    def _field(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value or None

    def _dispatch(self) -> list[tuple[str | None, str]]:
        event, data = self._event, self._data
        self._event, self._data = None, []
        return [(event, "\n".join(data))] if data else []

"""Native responses, whole or in bytes, as ``Completion`` and ``Chunk``. Nothing here raises."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from ...vocabulary import Chunk, Completion
from ...wire import Shape, SSEReader

_log = logging.getLogger("demur")


def read_parsed(shape: Shape, result: Any) -> Completion:
    """A response the SDK has parsed, before any ``post_parser`` saw it."""
    try:
        payload = result if isinstance(result, Mapping) else result.model_dump(warnings=False)
    except Exception as error:  # noqa: BLE001 - the fail-open edge: unread means not judged
        return unread(result, error)
    return shape.read_completion(payload, result)


def read_raw(shape: Shape, result: Any, http: Any, raw: bytes | None = None) -> Completion:
    """A raw response; ``raw`` is its body as it came over the wire, if it was not read yet."""
    try:
        body = http.content if raw is None else decoded(http, raw)
    except Exception as error:  # noqa: BLE001 - the fail-open edge: unread means not judged
        return unread(result, error)
    return shape.read_body(body, result)


def sends_events(http: Any) -> bool:
    """Whether a body is a stream of events, which its reader wants as they come."""
    kind: str = http.headers.get("content-type", "")
    return kind.lower().startswith("text/event-stream")


def decoded(http: Any, raw: bytes) -> bytes:
    """The body without its content encoding, decoded on a copy."""
    copy = type(http)(200, headers=http.headers, content=raw)
    body: bytes = copy.content
    return body


def unread(result: Any, error: Exception) -> Completion:
    _log.warning("demur: response not judged, reading it failed with %s", type(error).__name__)
    return Completion((), result)


class ByteReader:
    """Reads a streamed response's raw bytes along, leaving them as they are."""

    def __init__(self, shape: Shape, headers: Mapping[str, str]) -> None:
        self._shape = shape
        self._decode = _decoder(headers.get("content-encoding", ""))
        self._events = SSEReader()

    def read(self, raw: bytes) -> Chunk:
        """The chunk that ``raw`` is; ``opaque`` where its encoding is not known."""
        try:
            data = self._decode(raw)
        except (zlib.error, ValueError):
            return Chunk(raw, opaque=True)
        return self._merged(raw, self._events.feed(data))

    def rest(self) -> Chunk | None:
        """What an event that was never ended says, once the bytes are over."""
        events = list(self._events.finish())
        return self._merged(b"", events) if events else None

    def _merged(self, raw: bytes, events: Any) -> Chunk:
        said: list[Chunk] = []
        for event, data in events:
            said.append(self._shape.read_event(event, data))
            if said[-1].opaque:
                break
        return Chunk(
            native=raw,
            deltas=tuple(delta for chunk in said for delta in chunk.deltas),
            model=next((chunk.model for chunk in said if chunk.model), None),
            usage=next((chunk.usage for chunk in reversed(said) if chunk.usage), None),
            opaque=any(chunk.opaque for chunk in said),
            done=any(chunk.done for chunk in said),
        )


def _decoder(encoding: str) -> Callable[[bytes], bytes]:
    match encoding.strip().lower():
        case "" | "identity":
            return bytes
        case "gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
        case "deflate":
            return zlib.decompressobj().decompress
    return _undecodable


def _undecodable(_: bytes) -> bytes:
    raise ValueError

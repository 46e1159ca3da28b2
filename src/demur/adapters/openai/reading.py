"""Native responses, whole or in bytes, as ``Completion`` and ``Chunk``. Nothing here raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
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

    def __init__(self, shape: Shape, decode: Callable[[bytes], bytes] = bytes) -> None:
        self._shape = shape
        self._decode = decode
        self._events = SSEReader()

    def read(self, raw: bytes) -> Chunk:
        """The chunk that ``raw`` is; ``opaque`` where its encoding is not known."""
        try:
            data = self._decode(raw)
        except Exception:  # noqa: BLE001 - the fail-open edge: each encoding has errors of its own
            return Chunk(raw, opaque=True)
        return self._shape.read_events(self._events.feed(data), raw)

    def rest(self) -> Chunk | None:
        """What an event that was never ended says, once the bytes are over."""
        events = self._events.finish()
        return self._shape.read_events(events, b"") if events else None


def decoder(http: Any) -> Callable[[bytes], bytes]:
    """What takes the content encoding off a streamed body, part by part.

    It is the HTTP library's own, as what was negotiated is what that library can decode.
    """
    names = [name.strip().lower() for name in http.headers.get("content-encoding", "").split(",")]
    encodings = [name for name in names if name not in ("", "identity")]
    if not encodings:
        return bytes
    try:
        made = [_decoder_of(http, encoding) for encoding in ("identity", *encodings)]
        unknown = [e for e, d in zip(encodings, made[1:], strict=True) if type(d) is type(made[0])]
        if not unknown:
            return partial(_whole, _decoder_of(http, ", ".join(encodings)).decode)
    except Exception:  # noqa: BLE001 - the fail-open edge: unread means not judged
        unknown = encodings
    for encoding in unknown:
        _tell_unknown(encoding[:40])
    return _undecodable


def _decoder_of(http: Any, encoding: str) -> Any:
    return type(http)(200, headers={"content-encoding": encoding})._get_content_decoder()


def _whole(decode: Callable[[bytes], bytes | Iterable[bytes]], raw: bytes) -> bytes:
    """httpx2 decodes in pieces, httpx at once."""
    decoded = decode(raw)
    return decoded if isinstance(decoded, bytes) else b"".join(decoded)


@lru_cache(maxsize=16)
def _tell_unknown(encoding: str) -> None:
    _log.warning("demur: streams are not judged in the content encoding %r", encoding)


def _undecodable(_: bytes) -> bytes:
    raise ValueError

"""One judged request: what its ports need to call the SDK and to read what it answers."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import openai
from openai._legacy_response import LegacyAPIResponse
from openai._models import FinalRequestOptions
from openai._response import BaseAPIResponse

from ...detection import Detector
from ...flow.plan import Plan
from ...policy.schema import Policy
from ...stores import Store
from ...vocabulary import Completion, Outcome, Target
from ...wire import Shape
from .reading import ByteReader, decoder, read_parsed, read_raw, sends_events
from .replay import Whole
from .requests import for_fallback, usual_timeout, wants_raw
from .twins import plain_class, unpinned


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a wrapped client carries.

    ``clients`` are those of targets that live elsewhere; those in ``own`` were made for this
    wiring, and are closed with the wrapped client.
    """

    policy: Policy
    detector: Detector
    sink: Callable[[Outcome], None]
    clients: Mapping[str, Any]
    own: tuple[Any, ...] = ()
    store: Store | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way through a flow. ``client`` is the wrapped one, called as if plain."""

    wiring: Wiring
    plan: Plan
    shape: Shape
    client: Any
    cast_to: Any
    options: FinalRequestOptions
    stream: bool
    stream_cls: Any

    def send(self, target: Target, attempt: int, timeout: float | None) -> Any:
        """Call the SDK; gives what its ``request`` gives, awaitable if the client is."""
        if attempt == 0:
            return self._request(self.client, self._judgeable(self.options))
        other = self.wiring.clients.get(target.name)
        client = other or unpinned(self.client)
        usual = usual_timeout(self.options, client)
        elsewhere = other is not None
        options = for_fallback(self.options, target, timeout, usual=usual, elsewhere=elsewhere)
        return self._request(client, self._judgeable(options))

    def opened(self, result: Any, parts: Callable[[Any], Any]) -> OpenedStream:
        """The stream behind what ``send`` gave, with ``parts`` to iterate over its bytes."""
        return OpenedStream.of(result, self.shape, parts)

    def read_patiently(self, result: Any, target: Target) -> None:
        """Lift from a fallback's stream the limit that its opening had.

        The driver bounds what is held, and what is released may pause for as long as without demur.
        """
        client = self.wiring.clients.get(target.name) or self.client
        _read_patiently(http_of(result), usual_timeout(self.options, client))

    def emit(self, record: Outcome) -> None:
        if self.plan.logs(record):
            self.wiring.sink(record)

    def read_now(self, result: Any, attempt: int) -> Completion | None:
        """What ``send`` gave, where nothing is left to be read from the connection, or where that
        is the caller's to read."""
        http = http_of(result)
        if http is None:
            return self._read_parsed(result, attempt)
        if http.is_stream_consumed:
            return read_raw(self.shape, result, http)
        return Completion((), result) if not attempt and sends_events(http) else None

    def read_whole(self, result: Any, whole: Whole) -> Completion:
        """What ``send`` gave, its body read along."""
        if whole.error:
            return Completion((), result)
        return read_raw(self.shape, result, http_of(result), whole.raw)

    def _read_parsed(self, result: Any, attempt: int) -> Completion:
        """What the SDK made of a body. A fallback's that the caller's parser rejects is unread."""
        completion = read_parsed(self.shape, result)
        if not attempt:
            return completion
        try:
            self.parsed(result)
        except Exception:  # noqa: BLE001 - the caller's parser may raise anything
            return replace(completion, choices=())
        return completion

    def parsed(self, result: Any) -> Any:
        """The accepted response as the caller asked for it, its ``post_parser`` applied."""
        if self._parses_here:
            request_id = getattr(result, "_request_id", None)
            result = self.options.post_parser(result)  # type: ignore[operator]
            if isinstance(result, openai.BaseModel):
                result._request_id = request_id
        return result

    @property
    def _parses_here(self) -> bool:
        return callable(self.options.post_parser) and not wants_raw(self.options)

    def _judgeable(self, options: FinalRequestOptions) -> FinalRequestOptions:
        # A `post_parser` may raise on a refusal, so it has to wait for the verdict.
        if not self._parses_here:
            return options
        return options.model_copy(update={"post_parser": openai.NotGiven()})

    def _request(self, client: Any, options: FinalRequestOptions) -> Any:
        return plain_class(type(client)).request(
            client, self.cast_to, options, stream=self.stream, stream_cls=self.stream_cls
        )


@dataclass(slots=True, eq=False)
class OpenedStream:
    """A streamed response being read. ``source`` is the byte stream the SDK would have read.

    A thread that reads it has the ``turn``. ``failure`` is what closing it raised. Of a response
    that was ``read_before``, by a hook of the HTTP client for one, the SDK reads what was kept.
    """

    result: Any
    http: Any
    source: Any
    parts: Any
    reader: ByteReader
    turn: threading.Lock = field(default_factory=threading.Lock)
    rested: bool = False
    failure: Exception | None = None
    read_before: bool = False

    @classmethod
    def of(cls, result: Any, shape: Shape, parts: Callable[[Any], Any]) -> OpenedStream:
        http = http_of(result)
        source = http.stream
        kept = _kept_body(http)
        if kept is None:
            return cls(result, http, source, parts(source), ByteReader(shape, decoder(http)))
        # What was kept has no content encoding any more.
        reader = ByteReader(shape)
        return cls(result, http, source, parts(_OnePart(kept)), reader, read_before=True)

    def raise_failure(self) -> None:
        """Tell whoever closes the response what its own stream would have told them."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def rest(self) -> Any:
        """What is left to say once the bytes are over: a chunk once, then ``None``."""
        if self.rested:
            return None
        self.rested = True
        return self.reader.rest()


class _OnePart:
    """A body in memory, for those who iterate over streams of either kind."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _kept_body(http: Any) -> bytes | None:
    """The body where it was read and kept before anybody asked for it."""
    if not http.is_stream_consumed:
        return None
    try:
        body: bytes = http.content
    except RuntimeError:  # it was read and not kept
        return None
    return body


def http_of(result: Any) -> Any:
    """The HTTP response behind what ``request`` returned; ``None`` behind a parsed one."""
    if isinstance(result, BaseAPIResponse | LegacyAPIResponse):
        return result.http_response
    if isinstance(result, openai.Stream | openai.AsyncStream):
        return result.response
    is_http = all(hasattr(result, name) for name in ("extensions", "stream", "status_code"))
    return result if is_http else None


def _read_patiently(http: Any, usual: Any) -> None:
    """Read the body with the read timeout of ``usual``: the transport looks it up as it begins."""
    timeouts = http.request.extensions.get("timeout")
    if isinstance(timeouts, dict):
        timeouts["read"] = getattr(usual, "read", usual)

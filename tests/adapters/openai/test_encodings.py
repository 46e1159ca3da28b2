"""Streams in a content encoding that the SDK's HTTP library negotiated."""

from __future__ import annotations

import importlib
import zlib

import openai
import pytest
from openai_stage import ANSWER, REFUSAL, piece, sse

import demur
from demur.testing import Reply


def deflate(parts, wbits):
    packing = zlib.compressobj(wbits=wbits)
    packed = [packing.compress(part) + packing.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return (*packed, packing.flush())


def zstd(parts):
    zstandard = pytest.importorskip("zstandard")
    packing = zstandard.ZstdCompressor().compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    packed = [packing.compress(part) + packing.flush(flush) for part in parts]
    return (*packed, packing.flush())


def brotli(parts):
    packing = pytest.importorskip("brotli").Compressor()
    return (*(packing.process(part) + packing.flush() for part in parts), packing.finish())


ENCODERS = {
    "gzip": lambda parts: deflate(parts, 31),
    "deflate": lambda parts: deflate(parts, 15),
    "raw deflate": lambda parts: deflate(parts, -15),
    "Deflate , gzip": lambda parts: deflate(deflate(parts, 15), 31),
    "br": brotli,
    "zstd": zstd,
}


def encoded(parts, encoding):
    headers = {"content-encoding": encoding, "content-type": "text/event-stream"}
    return Reply(body=tuple(parts), headers=headers)


def negotiated():
    family = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    with importlib.import_module(family).Client() as client:
        return client.headers["accept-encoding"]


@pytest.mark.parametrize("encoding", ENCODERS)
def test_what_the_client_negotiated_is_judged(caller, serve, encoding):
    """Every encoding that the HTTP library can decode is looked through, layers of them too."""
    if encoding in ("br", "zstd") and encoding not in negotiated():
        pytest.skip(f"the HTTP library does not know {encoding}")
    parts = ENCODERS[encoding](sse(*map(piece, (REFUSAL[:9], REFUSAL[9:])), "[DONE]"))
    upstream = serve(primary=encoded(parts, encoding.removeprefix("raw ")), second=Reply(ANSWER))
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert caller.text(stream) == ANSWER
    assert demur.outcome_of(stream).ending == "fell_back"


def test_an_encoding_nobody_knows_is_told_once(caller, serve, caplog):
    """Such a stream passes unjudged, as it came; the log says why, and not at every request."""
    unknown = f"rot13-{caller.kind}"
    parts = sse(piece(REFUSAL), "[DONE]")
    client = caller.wrap(serve(primary=encoded(parts, f"gzip, {unknown}")))
    create = client.chat.completions.with_raw_response.create
    for _ in range(2):
        raw = caller.wait(create(model="primary", messages=[], stream=True))
        body = raw.http_response.iter_raw() if caller.kind == "sync" else None
        got = list(body) if body else caller.items(raw.http_response.aiter_raw())
        assert b"".join(got) == b"".join(parts)
        assert demur.outcome_of(raw).verdict is None
    assert caplog.text.count(unknown) == 1


def test_a_body_that_is_not_what_its_encoding_says_passes_unjudged(caller, serve):
    """Its reader hears of it from the SDK, as without demur."""
    client = caller.wrap(serve(primary=encoded((b"no gzip", b"at all"), "gzip")))
    stream = caller.create(client, stream=True)
    with pytest.raises(Exception, match=r"incorrect header|Connection error"):
        caller.items(stream)
    assert demur.outcome_of(stream).verdict is None

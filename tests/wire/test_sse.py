"""Server-sent events come out the same however their bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.wire import SSEReader


def read(*pieces: bytes) -> list[tuple[str | None, str]]:
    reader = SSEReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_line_ends(end: bytes) -> None:
    """LF, CR and CRLF all end lines, and a blank line ends an event."""
    lines = [b"event: delta", b'data: {"a": 1}', b"", b"data: [DONE]", b"", b""]
    assert read(end.join(lines)) == [("delta", '{"a": 1}'), (None, "[DONE]")]


def test_crlf_cut_in_two() -> None:
    """A CRLF whose halves arrive apart is one line end, not a blank line."""
    assert read(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [(None, "a\nb")]


def test_split_utf8() -> None:
    """A character whose bytes arrive apart is read whole."""
    text = "data: I can\u2019t \U0001f600\n\n".encode()
    assert read(*(bytes([byte]) for byte in text)) == [(None, "I can\u2019t \U0001f600")]


def test_comments_ids_and_unknown_fields_are_skipped() -> None:
    """Keep-alive comments and fields other than event and data say nothing."""
    assert read(b": ping\n\nid: 7\nretry: 10\nfoo: bar\ndata:x\n\n") == [(None, "x")]


def test_several_data_lines_are_joined() -> None:
    """Data lines of one event are joined by line feeds; one leading space is dropped."""
    assert read(b"data:  a\ndata\ndata: b\n\n") == [(None, " a\n\nb")]


def test_unicode_line_separators_do_not_end_lines() -> None:
    """U+2028 and U+0085, which JSON may hold unescaped, are text."""
    assert read("data: a\u2028b\u0085c\n\n".encode()) == [(None, "a\u2028b\u0085c")]


def test_byte_order_mark_and_invalid_bytes() -> None:
    """A mark at the start is dropped; bytes that are no UTF-8 are replaced, never raised on."""
    assert read(b"\xef\xbb\xbfdata: \xff\xfe\n\n") == [(None, "\ufffd\ufffd")]


def test_event_left_open_is_given_by_finish() -> None:
    """A last event without its blank line, or without its line end, is not lost."""
    assert read(b"data: a\n\ndata: b") == [(None, "a"), (None, "b")]
    assert read(b"data: a\n") == [(None, "a")]


def test_event_name_without_data_is_no_event() -> None:
    """An event needs data, and its name does not spill over to the next."""
    assert read(b"event: ping\n\ndata: a\n\n") == [(None, "a")]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


LINES = st.sampled_from(
    ["data: x", "data:\u00e9\U0001f600", "data", ": c", "event: e", "", "\u2028", "id: 1"]
)


@given(st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"]))), st.lists(st.integers(0)))
def test_cuts_do_not_matter(lines: list[tuple[str, str]], places: list[int]) -> None:
    """Any cutting of the same bytes gives the same events as one piece does."""
    data = "".join(line + end for line, end in lines).encode()
    assert read(*cut(data, places)) == read(data)


@given(st.lists(st.binary()))
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    """No bytes make it raise, and every event has data lines."""
    for event, data in read(*pieces):
        assert event is None or event
        assert isinstance(data, str)

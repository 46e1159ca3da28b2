"""Closing a stream from another thread than the one that reads it."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

from demur.adapters.openai.exchange import OpenedStream
from demur.adapters.openai.ports import BlockingPort
from demur.wire import shape_for


class Connection:
    """A byte stream on a real socket, slow to notice its end."""

    def __init__(self) -> None:
        self.mine, self.theirs = socket.socketpair()
        self.inside = threading.Event()
        self.closed_under_a_reader: bool | None = None

    def __iter__(self):
        while True:
            self.inside.set()
            raw = self.mine.recv(100)
            time.sleep(0.05)
            self.inside.clear()
            if not raw:
                return
            yield raw

    def close(self) -> None:
        self.closed_under_a_reader = self.inside.is_set()
        self.mine.close()


def test_the_reader_is_out_before_its_socket_is_closed() -> None:
    """A file descriptor closed under a thread that waits on it may be another connection's by the
    time the kernel looks again; the thread would then wait for that one."""
    source = Connection()
    network = SimpleNamespace(get_extra_info=lambda name: source.mine)
    http = SimpleNamespace(
        status_code=200, headers={}, http_version="HTTP/1.1", stream=source,
        extensions={"network_stream": network}, is_stream_consumed=False,
    )  # fmt: skip
    opened = OpenedStream.of(http, shape_for("chat"), iter)
    http.stream = object()  # the replay in its place
    port = BlockingPort(None)
    reader = threading.Thread(target=port.read, args=[opened])
    reader.start()
    assert source.inside.wait(5)
    port.close(opened)
    reader.join(5)
    source.theirs.close()
    assert not reader.is_alive()
    assert source.closed_under_a_reader is False

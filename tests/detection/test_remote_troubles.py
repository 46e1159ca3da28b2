"""Servers that drip, drown or send elsewhere, and keys that are none."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import detector, label, tei

from demur.errors import PolicyError


class Endless:
    """Answers with the head of a response and then ``part`` after ``part``, ``seconds`` apart."""

    def __init__(self, part: bytes, seconds: float) -> None:
        self.part, self.seconds = part, seconds
        self.ended = self.sent = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n[")
                while True:
                    connection.sendall(self.part)
                    self.sent += len(self.part)
                    time.sleep(self.seconds)
            except OSError:
                self.ended += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def endless() -> Iterator[Callable[[bytes, float], Endless]]:
    servers: list[Endless] = []

    def start(part: bytes, seconds: float) -> Endless:
        servers.append(Endless(part, seconds))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_body_that_drips_is_left(endless: Any) -> None:
    """It holds a connection and its worker no longer than about the deadline, not for ever."""
    server = endless(b" ", 0.05)
    found = detector(server.url, seconds=0.4, connections=2)
    for number in range(3):
        assert "no answer within" in label(found, f"text {number}")
    until(lambda: server.ended >= 2)
    assert "no answer within" in label(found, "another text")


def test_a_body_without_end_is_not_kept(endless: Any) -> None:
    """Some megabytes are read of it at most."""
    server = endless(b" " * 1_000_000, 0.0)
    found = detector(server.url, seconds=30.0)
    assert "answered with more than" in label(found, "text")
    until(lambda: server.ended == 1)
    assert server.sent < 100_000_000


def test_a_redirection_is_not_followed(serve: Any) -> None:
    """The texts go to the server that the policy names, and nowhere else."""
    server = serve(tei)
    server.status = 307
    assert "status 307" in label(detector(server.url), "text")


@pytest.mark.parametrize("key", ["secret\n", "secr\u20act", " secret\r\nx: y"])
def test_a_key_that_is_no_header_is_told_without_it(
    serve: Any, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when it was read from a file with its line break: at the start, not at each text."""
    monkeypatch.setenv("DEMUR_KEY", key)
    server = serve(tei)
    with caplog.at_level(logging.DEBUG), pytest.raises(PolicyError, match="'DEMUR_KEY'") as caught:
        label(detector(server.url, api_key_env="DEMUR_KEY"), "text")
    assert "secr" not in str(caught.value)
    assert "secr" not in caplog.text
    assert not server.requests


@pytest.mark.parametrize(
    "answer",
    [b"[" * 100_000, b'{"data": [{"index": 1e999, "probs": [0.5]}]}'],
    ids=["deep", "infinite"],
)
def test_nonsense_is_told_as_such(serve: Any, answer: bytes) -> None:
    """Whatever is wrong with what a server answers, the error is about the server."""
    server = serve(lambda body: answer)
    told = label(detector(server.url, protocol="vllm"), "text")
    assert told.startswith(f"remote: {server.url} answered")
    assert json.dumps(told)

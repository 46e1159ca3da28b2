"""A store that fails or hangs keeps nobody waiting, and is told of once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest

from demur.errors import MissingExtraError, PolicyError
from demur.flow.ledger import Cell, Look, Operation, Put, Told
from demur.policy import load_policy
from demur.stores import NoStore, store_for
from demur.stores.bounded import AWAY_SECONDS, THREADS, Bounded, StoreError
from demur.stores.memory import MemoryStore

ASKED = (Look("a"),)
LIMIT = 0.05
RETRY = {"fallbacks": ["b"], "breaker": {}}


class Scripted:
    """A blocking store that does what it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.hang = threading.Event()
        self.hang.set()

    def ask(self, operations: Sequence[Operation]) -> Told:
        self.asked += 1
        self.hang.wait(10)
        if self.error is not None:
            raise self.error
        return Told((Cell("here"),), 1.0)


@pytest.fixture
def store() -> Iterator[Scripted]:
    found = Scripted()
    yield found
    found.hang.set()


Ask = Callable[[Bounded], Told]


@pytest.fixture(params=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "awaiting":
        return lambda bounded: asyncio.run(bounded.aask(ASKED))
    return lambda bounded: bounded.ask(ASKED)


def timed(ask: Ask, bounded: Bounded) -> float:
    start = time.perf_counter()
    with pytest.raises(StoreError):
        ask(bounded)
    return time.perf_counter() - start


def test_an_answer_comes_through(ask: Ask, store: Scripted) -> None:
    """What the store tells is told."""
    assert ask(Bounded(store, 5.0)).facts == (Cell("here"),)


def test_a_hanging_store_costs_its_limit_once(ask: Ask, store: Scripted) -> None:
    """The first request waits as long as is allowed, those after it not at all."""
    store.hang.clear()
    bounded = Bounded(store, LIMIT)
    assert LIMIT <= timed(ask, bounded) < LIMIT + 0.5
    assert timed(ask, bounded) < LIMIT
    assert store.asked == 1


def test_a_failing_store_is_told_of_once(
    ask: Ask, store: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    """By its error's type, without the message; asked again later, and welcomed back."""
    now = [0.0]
    bounded = Bounded(store, 5.0, clock=lambda: now[0])
    store.error = ConnectionError("redis://user:secret@host")
    with caplog.at_level(logging.INFO, "demur"):
        for _ in range(3):
            timed(ask, bounded)
            now[0] += AWAY_SECONDS
        store.error = None
        ask(bounded)
    assert store.asked == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text


def test_a_busy_loop_is_not_the_stores_fault(store: Scripted) -> None:
    """An answer that came in time, and was only seen late, leaves the store in use."""
    bounded = Bounded(store, LIMIT)

    async def busy() -> None:
        task = asyncio.ensure_future(bounded.aask(ASKED))
        await asyncio.sleep(0)
        time.sleep(3 * LIMIT)  # noqa: ASYNC251 - that is the point
        with suppress(StoreError):
            await task
        assert (await bounded.aask(ASKED)).facts == (Cell("here"),)

    asyncio.run(busy())


def test_threads_are_few(store: Scripted) -> None:
    """However many ask at once, there are at most so many threads, and all are answered."""
    bounded = Bounded(store, 5.0)
    told: list[Told] = []
    before = threading.active_count()
    store.hang.clear()
    askers = [
        threading.Thread(target=lambda: told.append(bounded.ask(ASKED))) for _ in range(3 * THREADS)
    ]
    for asker in askers:
        asker.start()
    assert threading.active_count() <= before + len(askers) + THREADS
    store.hang.set()
    for asker in askers:
        asker.join(5)
    assert len(told) == len(askers)


def test_a_thread_that_cannot_start_is_started_later(
    ask: Ask, store: Scripted, threadless: Callable[[], AbstractContextManager[None]]
) -> None:
    """However often that failed; until then nobody waits for an answer."""
    now = [0.0]
    bounded = Bounded(store, 5.0, clock=lambda: now[0])
    for _ in range(2 * THREADS):
        with threadless():
            assert timed(ask, bounded) < 2.0
        now[0] += AWAY_SECONDS
    assert ask(bounded).facts == (Cell("here"),)
    assert store.asked == 1


def test_threads_end_with_the_store(store: Scripted) -> None:
    """A store that nobody holds any more leaves no thread behind."""
    before = set(threading.enumerate())
    bounded = Bounded(store, 5.0)
    bounded.ask(ASKED)
    (thread,) = set(threading.enumerate()) - before
    del bounded
    thread.join(5)
    assert not thread.is_alive()


def test_a_forked_child_has_threads_of_its_own(store: Scripted) -> None:
    """A child asks, too, though its parent's threads are not there."""
    bounded = Bounded(store, 5.0)
    bounded.ask(ASKED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if bounded.ask(ASKED).facts == (Cell("here"),) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_late_answer_brings_the_store_back(ask: Ask, store: Scripted) -> None:
    """Once the answer that was overdue is there the store is asked again, in a child at once."""
    store.hang.clear()
    bounded = Bounded(store, LIMIT)
    timed(ask, bounded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        store.hang = threading.Event()
        store.hang.set()
        os._exit(0 if bounded.ask(ASKED).facts == (Cell("here"),) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.hang.set()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with suppress(StoreError):
            assert ask(bounded).facts == (Cell("here"),)
            return
    raise AssertionError("never asked again")


def shared_policy(**more: Any) -> Any:
    rule = {"name": "r", "actions": ["retry"], "retry": RETRY}
    return load_policy({"version": 1, "rules": [rule], **more})


def test_a_policy_that_remembers_nothing_has_no_store() -> None:
    """Neither the default nor a plain retry costs anything; a breaker gets the process's memory."""
    plain = {"name": "r", "actions": ["retry"], "retry": {"fallbacks": ["b"]}}
    assert store_for(load_policy({"version": 1})) is None
    assert store_for(load_policy({"version": 1, "rules": [plain]})) is None
    unused = {"name": "r", "actions": ["tag"], "retry": RETRY}
    assert store_for(load_policy({"version": 1, "rules": [unused]})) is None
    assert isinstance(store_for(shared_policy()), MemoryStore)
    assert isinstance(
        store_for(load_policy({"version": 1, "rules": [plain], "budgets": [{"calls": 1}]})),
        MemoryStore,
    )


def test_the_store_of_an_unset_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable; one that holds no URL is not quoted."""
    monkeypatch.delenv("DEMUR_TEST_REDIS", raising=False)
    policy = shared_policy(shared={"redis_env": "DEMUR_TEST_REDIS"})
    with pytest.raises(PolicyError, match="'DEMUR_TEST_REDIS' is not set"):
        store_for(policy)
    pytest.importorskip("redis")
    monkeypatch.setenv("DEMUR_TEST_REDIS", "http://user:secret@host")
    with pytest.raises(PolicyError, match="cannot be read") as caught:
        store_for(policy)
    assert "secret" not in str(caught.value)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis installed the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setenv("DEMUR_TEST_REDIS", "redis://127.0.0.1:1/0")
    with pytest.raises(MissingExtraError, match=r"demur\[redis\]"):
        store_for(shared_policy(shared={"redis_env": "DEMUR_TEST_REDIS"}))


def test_importing_stores_imports_no_redis() -> None:
    """Redis is imported by whoever asks for it."""
    code = "import sys, demur.stores, demur.stores.redis; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_redis_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, or silent behind an open port: no more than the limit, then nothing at all."""
    pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):
            monkeypatch.setenv("DEMUR_TEST_REDIS", f"redis://127.0.0.1:{port}/0")
            store: Any = store_for(shared_policy(shared={"redis_env": "DEMUR_TEST_REDIS"}))
            assert timed(lambda bounded: bounded.ask(ASKED), store) < 0.5
            assert timed(lambda bounded: bounded.ask(ASKED), store) < 0.05


def test_a_redis_that_is_there(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes' stores with one URL share what they keep; another prefix does not."""
    pytest.importorskip("redis")
    monkeypatch.setenv("DEMUR_TEST_REDIS", redis_url)
    shared = {"redis_env": "DEMUR_TEST_REDIS", "prefix": "there"}
    one: Any = store_for(shared_policy(shared=shared))
    two: Any = store_for(shared_policy(shared=shared))
    other: Any = store_for(shared_policy(shared={**shared, "prefix": "elsewhere"}))
    one.ask((Put("a", "mark", 60.0),))
    assert two.ask(ASKED).facts == (Cell("mark"),)
    assert asyncio.run(two.aask(ASKED)).facts == (Cell("mark"),)
    assert other.ask(ASKED).facts == (Cell(),)


def test_no_store_knows_nothing() -> None:
    """A driver without a store has no advice to give."""
    with pytest.raises(LookupError):
        NoStore().ask(ASKED)

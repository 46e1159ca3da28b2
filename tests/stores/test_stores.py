"""Stores: the same cells in memory and in a real Redis."""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demur.flow.ledger import Add, Allowance, Cell, Look, Operation, Put, Reserve, Swap
from demur.stores.memory import MemoryStore
from demur.stores.redis import RedisStore

WINDOW = 12.0


class Clock:
    """Seconds that only a test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def redis_client(redis_url: str) -> Iterator[Any]:
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[[Clock], Any]:
    """Makes an empty store, of either kind, on a clock."""
    if request.param == "memory":
        return lambda clock: MemoryStore(clock=clock)
    client = request.getfixturevalue("redis_client")
    return lambda clock: RedisStore(client, uuid.uuid4().hex, clock=clock)


def one(store: Any, operation: Operation) -> Any:
    (fact,) = store.ask((operation,)).facts
    return fact


def test_an_empty_cell_says_nothing(make: Callable[[Clock], Any]) -> None:
    """Nothing is known of a key nobody has used, and looking makes nothing."""
    clock = Clock()
    told = make(clock).ask((Look("a"), Look("b", WINDOW)))
    assert told.facts == (Cell(), Cell())
    assert told.now == clock.now


def test_a_mark_lasts_its_time(make: Callable[[Clock], Any]) -> None:
    """A mark is there until its seconds have passed, and then it is not."""
    store = make(clock := Clock())
    one(store, Put("a", "1:second", 10.0))
    clock.now += 9.9
    assert one(store, Look("a")) == Cell("1:second")
    clock.now += 0.1
    assert one(store, Look("a")) == Cell()


def test_a_swap_changes_what_it_knows(make: Callable[[Clock], Any]) -> None:
    """A mark is changed from what it is said to be, from no mark too, and from nothing else."""
    store = make(clock := Clock())
    assert not one(store, Swap("a", "open", "probing", 5.0))
    assert one(store, Swap("a", None, "open", 5.0))
    assert not one(store, Swap("a", None, "open again", 5.0))
    assert one(store, Swap("a", "open", "probing", 5.0))
    assert one(store, Look("a")) == Cell("probing")
    clock.now += 5.0
    assert one(store, Swap("a", None, "anew", 5.0))


def test_a_window_slides(make: Callable[[Clock], Any]) -> None:
    """Amounts count for the window's length, give or take a slot, and add up."""
    store = make(clock := Clock(1200.0))
    one(store, Add("a", WINDOW, (("judged", 1.0), ("refused", 1.0))))
    clock.now += 6.0
    one(store, Add("a", WINDOW, (("judged", 1.0),)))
    assert one(store, Look("a", WINDOW)).amounts == {"judged": 2.0, "refused": 1.0}
    clock.now += 5.5
    assert one(store, Look("a", WINDOW)).amounts == {"judged": 2.0, "refused": 1.0}
    clock.now += 0.5
    assert one(store, Look("a", WINDOW)).amounts == {"judged": 1.0}
    clock.now += 6.0
    assert one(store, Look("a", WINDOW)) == Cell()


def test_a_guarded_addition_needs_its_mark(make: Callable[[Clock], Any]) -> None:
    """What is added under a mark counts only while the cell still has that mark."""
    store = make(Clock())
    one(store, Add("a", WINDOW, (("n", 1.0),), mark=None, guarded=True))
    one(store, Put("a", "open", 100.0))
    one(store, Add("a", WINDOW, (("n", 1.0),), mark=None, guarded=True))
    one(store, Add("a", WINDOW, (("n", 1.0),), mark="open", guarded=True))
    assert one(store, Look("a", WINDOW)) == Cell("open", {"n": 2.0})
    assert one(store, Swap("a", "open", "closed", 100.0, clear=True))
    assert one(store, Look("a", WINDOW)) == Cell("closed")


def test_an_allowance_is_never_passed(make: Callable[[Clock], Any]) -> None:
    """As many are let through as the limit says, by every allowance, or none is counted."""
    store = make(clock := Clock())
    small = Allowance("small", WINDOW, (("calls", 2.0),))
    large = Allowance("large", WINDOW, (("calls", 3.0), ("cost", 1.0)))
    assert [one(store, Reserve("calls", (small, large))) for _ in range(3)] == [True, True, False]
    assert one(store, Look("large", WINDOW)).amounts == {"calls": 2.0}
    one(store, Add("large", WINDOW, (("cost", 1.0),)))
    assert not one(store, Reserve("calls", (large,)))
    clock.now += WINDOW
    assert one(store, Reserve("calls", (small, large)))


def test_threads_share_an_allowance(make: Callable[[Clock], Any]) -> None:
    """Many at once get exactly what there is."""
    store = make(Clock())
    asked = Reserve("calls", (Allowance("a", WINDOW, (("calls", 25.0),)),))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: one(store, asked), range(100)))
    assert sum(got) == 25


def test_of_many_swaps_one_succeeds(make: Callable[[Clock], Any]) -> None:
    """Of threads that want the same change one makes it."""
    store = make(Clock())
    with ThreadPoolExecutor(8) as pool:
        swaps = [Swap("a", None, f"by {n}", 60.0) for n in range(50)]
        got = list(pool.map(lambda swap: one(store, swap), swaps))
    assert sum(got) == 1
    assert one(store, Look("a")).mark == f"by {got.index(True)}"


keys = st.sampled_from("ab")
marks = st.none() | st.sampled_from(["x", "y"])
amounts = st.lists(
    st.tuples(st.sampled_from(["calls", "cost"]), st.sampled_from([1.0, 0.25, 2.0])),
    min_size=1,
    max_size=2,
    unique_by=lambda pair: pair[0],
).map(tuple)
seconds = st.sampled_from([1.0, 7.0, 30.0])
allowances = st.builds(Allowance, keys, st.just(WINDOW), amounts)
operations = st.one_of(
    st.builds(Look, keys, st.sampled_from([0.0, WINDOW])),
    st.builds(Swap, keys, marks, st.sampled_from(["x", "y"]), seconds, st.booleans()),
    st.builds(Put, keys, st.sampled_from(["x", "y"]), seconds),
    st.builds(Add, keys, st.just(WINDOW), amounts, marks, st.booleans()),
    st.builds(
        Reserve, st.just("calls"), st.lists(allowances, max_size=2, unique_by=str).map(tuple)
    ),
)
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 5.0, 13.0]), st.lists(operations, max_size=3)),
    max_size=12,
)


@given(steps=steps)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_keeps_what_memory_keeps(
    redis_client: Any, steps: Sequence[tuple[float, Sequence[Operation]]]
) -> None:
    """Whatever is asked, at whatever times, the script and the Python code tell the same."""
    clock = Clock()
    memory = MemoryStore(clock=clock)
    redis = RedisStore(redis_client, uuid.uuid4().hex, clock=clock)
    for passed, asked in steps:
        clock.now += passed
        assert redis.ask(asked) == memory.ask(asked)


def test_memory_is_bounded() -> None:
    """Beyond its size the cells go that were asked for least lately."""
    store = MemoryStore(most=3)
    for key in "abc":
        one(store, Put(key, key, 60.0))
    one(store, Look("a"))
    one(store, Put("d", "d", 60.0))
    assert [one(store, Look(key)).mark for key in "abcd"] == ["a", None, "c", "d"]


def test_a_forked_child_can_ask() -> None:
    """A child forked while another thread was asking does not wait for that thread."""
    store = MemoryStore()
    held, done = threading.Event(), threading.Event()

    def clock() -> float:
        held.set()
        done.wait(5)
        return 1.0

    store._clock = clock
    thread = threading.Thread(target=one, args=(store, Look("a")))
    thread.start()
    held.wait(5)
    child = _child(store)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _child(store: MemoryStore) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        store._clock = lambda: 2.0
        os._exit(0 if one(store, Put("a", "b", 1.0)) is None else 1)
    return child


def test_redis_forgets(redis_client: Any) -> None:
    """Every key has a time to live, and shows nothing of what it is about."""
    prefix = uuid.uuid4().hex
    store = RedisStore(redis_client, prefix)
    one(store, Put("sticky:1", "0:second", 60.0))
    one(store, Add("budget:1", 30.0, (("calls", 1.0),)))
    one(store, Swap("breaker:1", None, "open 1", 90.0))
    found = {key: redis_client.pttl(key) for key in redis_client.keys(f"*{prefix}*")}
    assert sorted(found.values()) == pytest.approx([60_000, 60_000, 90_000], abs=2000)


def test_redis_has_its_own_clock(redis_client: Any) -> None:
    """Without a clock given, times are the server's."""
    seconds, micros = redis_client.time()
    told = RedisStore(redis_client, "clock").ask((Look("a"),))
    assert 0 <= told.now - (seconds + micros / 1e6) < 5

"""Streams that nobody closes: the garbage collector does what their consumer left undone."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from openai_stage import ANSWER, REFUSAL, Caller

import demur
from demur.testing import CapturedRecords, PhraseDetector, Reply


@pytest.mark.parametrize("text", [ANSWER, REFUSAL])
def test_a_dropped_stream_is_cut_and_recorded(caller, serve, tmp_path, text):
    """A stream dropped half read cuts its connection and leaves its one record, as if closed."""
    slow = Reply(text, delay=0.05)
    upstream = serve(primary=slow, second=Reply(ANSWER, delay=0.05))
    path = tmp_path / "audit.jsonl"
    rule = {"name": "r", "actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["second"]}}
    policy = {"version": 1, "rules": [rule], "audit": {"path": str(path)}}
    client = caller.wrap(upstream, policy=policy)
    stream = caller.create(client, stream=True)
    caller.items(stream, 3)
    served = demur.outcome_of(stream).served_attempt.model
    del stream
    assert eventually(lambda: swept(caller) and len(lines(path)) == 1)
    assert upstream.wait_for_cut(served)


def test_a_stream_dropped_before_it_was_read_is_cut_and_recorded(caller, serve):
    """As where a server's client leaves before the generator around the stream has begun."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, delay=0.05))
    captured = CapturedRecords()
    client = caller.wrap(upstream, sinks=[captured])
    caller.create(client, stream=True)
    assert eventually(lambda: swept(caller) and len(captured.records) == 1)
    assert upstream.wait_for_cut("second")
    assert (captured.records[0].ending, captured.records[0].finished) == ("fell_back", True)


def test_a_stream_dropped_together_with_its_client_is_recorded(caller, serve, tmp_path):
    """A client made in a function takes its sinks along, which take the last record yet."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    path = tmp_path / "audit.jsonl"
    policy = {"version": 1, "rules": [{"name": "r"}], "audit": {"path": str(path)}}

    def use():
        client = demur.wrap(caller.client(upstream), policy=policy, detector=PhraseDetector())
        stream = caller.create(client, stream=True)
        caller.items(stream, 3)
        stream.me = stream

    use()
    assert eventually(lambda: swept(caller) and len(lines(path)) == 1)
    assert upstream.wait_for_cut("primary")


def test_collecting_a_stream_waits_for_no_lock(serve):
    """The collector may interrupt a thread anywhere, also in a sink that holds its lock."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    lock, records = threading.Lock(), []

    def sink(record):
        with lock:
            records.append(record)

    caller = Caller("sync")
    client = caller.wrap(upstream)
    wiring = vars(client)["_demur_wiring"]
    vars(client)["_demur_wiring"] = replace(wiring, sink=sink)

    def drop():
        stream = caller.create(client, stream=True)
        caller.items(stream, 3)
        with lock:
            del stream
            gc.collect()

    thread = threading.Thread(target=drop, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert eventually(lambda: len(records) == 1)
    assert upstream.wait_for_cut("primary")
    caller.close()


EXIT = """
import sys, threading, openai, demur
from demur.testing import PhraseDetector
client = demur.wrap(
    openai.OpenAI(base_url=sys.argv[1], api_key="x"),
    policy={"version": 1, "audit": {"path": sys.argv[2]}, "rules": [{"name": "r"}]},
    detector=PhraseDetector(),
)
def asked():
    return client.chat.completions.create(model="primary", messages=[], stream=True)
def said():
    with asked() as stream:
        yield from stream
"""
CLOSED = "saying = said(); next(saying); saying.close()"


def test_a_stream_left_as_the_program_ends_is_recorded(serve, tmp_path):
    """A generator around a stream, closed by the last line of a program, loses no record."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    path = tmp_path / "audit.jsonl"
    for run in range(1, 4):
        program = [sys.executable, "-c", EXIT + CLOSED, upstream.base_url, str(path)]
        subprocess.run(program, check=True, timeout=60)
        assert len(lines(path)) == run


READ = "thread = threading.Thread(target=next, args=(iter(asked()),)); thread.start()"


@pytest.mark.parametrize(
    "last",
    ["saying = said(); next(saying)", "for chunk in asked(): break", "stream = asked()", READ],
    ids=["a generator", "half read", "not read", "in a thread"],
)
def test_a_stream_that_a_program_never_closes_is_recorded(serve, tmp_path, last):
    """It may still be there as the interpreter ends, or in a cycle that nobody has collected."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    path = tmp_path / "audit.jsonl"
    program = [sys.executable, "-c", EXIT + last, upstream.base_url, str(path)]
    done = subprocess.run(program, check=True, timeout=60, capture_output=True)
    assert (len(lines(path)), done.stderr) == (1, b"")


AWAITED = """
import asyncio
awaited = demur.wrap(
    openai.AsyncOpenAI(base_url=sys.argv[1], api_key="x"),
    policy={"version": 1, "audit": {"path": sys.argv[2]}, "rules": [{"name": "r"}]},
    detector=PhraseDetector(),
)
ask = awaited.chat.completions.create(model="primary", messages=[], stream=True)
stream = asyncio.run(ask)
"""


@pytest.mark.parametrize("last", ["", "del stream"], ids=["kept", "dropped"])
def test_a_stream_that_outlives_its_loop_is_recorded(serve, tmp_path, last):
    """Nothing can be awaited for it any more."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    path = tmp_path / "audit.jsonl"
    program = [sys.executable, "-c", EXIT + AWAITED + last, upstream.base_url, str(path)]
    subprocess.run(program, check=True, timeout=60)
    assert len(lines(path)) == 1


FORKED = """
import gc, os
stream = asked()
if not os.fork():
    if sys.argv[3]:
        del stream
        gc.collect()
    sys.exit()
os.wait()
for chunk in stream:
    pass
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("drops", ["", "drops"])
def test_a_child_leaves_its_parents_stream_alone(serve, tmp_path, drops):
    """Only the parent records it, once it has read it whole."""
    upstream = serve(primary=Reply(ANSWER, delay=0.02))
    path = tmp_path / "audit.jsonl"
    program = [sys.executable, "-c", EXIT + FORKED, upstream.base_url, str(path), drops]
    subprocess.run(program, check=True, timeout=60)
    (record,) = map(json.loads, lines(path))
    assert record["ending"] == "accepted"
    assert not upstream.requests[0].cut


def swept(caller):
    """Collect garbage, and let the loop run what that has scheduled."""
    gc.collect()
    if caller.loop is not None:
        caller.wait(asyncio.sleep(0.01))
    return True


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def eventually(holds):
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()

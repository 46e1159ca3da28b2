"""Detectors that were used before their process forked, as by a server's workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

BATCHER = """
import os, threading
from demur.detection.batching import Batcher
begun, gate = threading.Event(), threading.Event()
def score(texts):
    if texts == ["held"]:
        begun.set()
        gate.wait(30)
    return [(index, len(text) / 10) for index, text in enumerate(texts)]
batcher = Batcher("m", score)
assert batcher.submit("a").result(10) == 0.1
held = batcher.submit("held")
waits = batcher.submit("waits")
begun.wait(10)
locked = threading.Event()
def hold():
    with batcher._line.lock:
        locked.set()
        gate.wait(30)
threading.Thread(target=hold, daemon=True).start()
locked.wait(10)
"""

GUARDED = """
import os, threading, time
from demur.detection.guarded import Guarded
from demur.testing import HangingDetector
from demur.errors import DetectorError
from demur.vocabulary import Evidence
hanging = HangingDetector()
guarded = Guarded(hanging, 0.05, hung_limit=1)
def fails():
    try:
        guarded.classify(Evidence("a"))
    except DetectorError as error:
        return str(error)
fails()
assert "not asked" in fails()
locked = threading.Event()
def hold():
    with guarded._lock, guarded._complaints._lock:
        locked.set()
        time.sleep(30)
threading.Thread(target=hold, daemon=True).start()
locked.wait(10)
"""

REMOTE = """
import json, os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from demur.detection.remote import RemoteDetector
from demur.policy.schema import RemoteSettings
from demur.vocabulary import Evidence
peers = []
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        peers.append(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = [{"label": "REFUSAL", "score": 0.9 if "can't" in t else 0.1}
                 for t, in body["inputs"]]
        data = json.dumps([[one] for one in found]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
settings = RemoteSettings(url=f"http://127.0.0.1:{server.server_port}", protocol="tei")
detector = RemoteDetector(settings)
def label(text):
    return detector.classify_later(Evidence(text)).result(10).label
assert label("I can't do that.") == "refusal"
"""

FORK = """
if not (pid := os.fork()):
    {child}
    raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
{parent}
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_batcher_scores_in_a_forked_child() -> None:
    """A child has workers of its own, whatever its parent's were at; what waited is the parent's,
    and what was scored is known."""
    child = "assert batcher.waiting == 0; assert batcher.submit('bcd').result(10) == 0.3"
    parent = "gate.set(); assert (held.result(10), waits.result(10)) == (0.4, 0.5)"
    run(BATCHER + FORK.format(child=child, parent=parent))


def test_calls_that_hang_hang_in_the_parent() -> None:
    """A child asks again, whoever held a lock as it was forked."""
    run(GUARDED + FORK.format(child="assert 'no answer' in fails()", parent="os._exit(0)"))


def test_a_remote_model_shares_no_connection_with_a_child() -> None:
    """Two processes on one connection would read each other's answers."""
    child = "assert label('No, I can\\'t.') == 'refusal'"
    parent = "assert label('Yes, it is.') == 'normal'; assert len(set(peers)) == 2, peers"
    run(REMOTE + FORK.format(child=child, parent=parent))

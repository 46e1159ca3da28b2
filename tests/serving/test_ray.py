"""A real Ray on this machine: two replicas, one killed while demur's remote stage asks them.

Skipped without Ray. About half a minute: python -m pytest tests/serving
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demur.detection.building import build_detector
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs demur[serve]"
)
DEMUR = str(Path(sys.executable).with_name("demur"))
REFUSAL = "I'm sorry, but I can't help with request number"
ANSWER = "The capital of Australia is Canberra, and its postcode is"
STARTING = 120.0


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of ``demur serve`` with two replicas, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DEMUR, "serve", "--replicas", "2", "--port", str(port), "--cpus", "0.5"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},  # else a busy machine starves replicas
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("serving on"):
                break
        assert line.startswith("serving on"), "".join(said)
        reading = threading.Thread(target=process.stderr.read, daemon=True)
        reading.start()
        yield f"http://127.0.0.1:{port}", process
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        reading.join(60)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def replicas(process: subprocess.Popen[str]) -> set[int]:
    """The processes of the replicas that belong to this test's Ray."""
    parents: dict[int, int] = {}
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(stat[1])
                if b"ServeReplica:demur" in (folder / "cmdline").read_bytes():
                    found.add(int(folder.name))
    return {pid for pid in found if process.pid in _ancestors(pid, parents)}


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while (pid := parents.get(pid, 0)) > 1:
        yield pid


def test_no_request_is_lost_when_a_replica_is_killed(served: Any) -> None:
    """Sixteen callers of the remote stage get every verdict, right and not degraded."""
    url, process = served
    before = replicas(process)
    assert len(before) == 2
    remote = {"protocol": "tei", "url": url, "connections": 16, "batching": {"size": 2}}
    detector = build_detector(
        DetectorSettings.model_validate({"stages": ["remote"], "seconds": 20.0, "remote": remote})
    )
    ending = time.monotonic() + 8.0
    kill_at = time.monotonic() + 2.0
    victim = min(before)

    def caller(number: int) -> list[bool]:
        right = []
        while time.monotonic() < ending:
            refuses = len(right) % 2 == 0
            text = f"{REFUSAL if refuses else ANSWER} {number}-{len(right)}."
            verdict = detector.classify(Evidence(text))
            right.append(
                (verdict.label == "refusal") is refuses
                and verdict.stage == "remote"
                and verdict.degraded is None
            )
        return right

    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(caller, number) for number in range(16)]
        time.sleep(kill_at - time.monotonic())
        os.kill(victim, signal.SIGKILL)
        answers = [right for future in running for right in future.result()]
    assert all(answers)
    assert len(answers) > 200
    print(f"{len(answers)} answers in 8 s")
    until = time.monotonic() + 60
    while len(replicas(process) - {victim}) < 2:
        assert time.monotonic() < until, "the killed replica was not replaced"
        time.sleep(0.2)


def test_kserve_and_health(served: Any) -> None:
    """The other protocol, over the same port; Serve's own health page answers too."""
    url, _ = served
    remote = {"protocol": "kserve", "url": url, "model": "demur"}
    detector = build_detector(
        DetectorSettings.model_validate({"stages": ["remote"], "seconds": 20.0, "remote": remote})
    )
    assert detector.classify(Evidence(f"{REFUSAL} 1.")).label == "refusal"
    assert detector.classify(Evidence(f"{ANSWER} 2600.")).label == "normal"
    for path in ("/health", "/v2/health/ready", "/-/healthz"):
        with urllib.request.urlopen(url + path, timeout=20) as response:
            assert response.status == 200


def test_metrics(served: Any) -> None:
    """The numbers stand on Ray's metrics page, which its discovery file names."""
    url, _ = served
    body = json.dumps({"inputs": REFUSAL}).encode()
    until = time.monotonic() + 60
    page = ""
    while "demur_served_texts" not in page or "demur_served_seconds_bucket" not in page:
        assert time.monotonic() < until
        urllib.request.urlopen(f"{url}/predict", body, timeout=20).close()
        time.sleep(1.0)
        page = "".join(_pages())


def _pages() -> Iterator[str]:
    listed = Path("/tmp/ray/prom_metrics_service_discovery.json")
    for group in json.loads(listed.read_text()) if listed.exists() else ():
        for target in group["targets"]:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as response,
            ):
                yield response.read().decode()


def test_the_application_scales_between_its_bounds() -> None:
    """``serve run demur.serving:app replicas=2 most_replicas=8`` builds what it says."""
    program = """
from ray import serve
from demur.serving import app, ServeSettings
made = app(ServeSettings(replicas="2", most_replicas="8", cpus="0.5", in_flight="16"))
assert isinstance(made, serve.Application)
scaling = made._bound_deployment._deployment_config.autoscaling_config
print(scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=STARTING
    )
    assert done.stdout.split() == ["2", "8", "16.0"], done.stderr


def test_serves_own_command_line() -> None:
    """``serve run demur.serving:app`` hands ``app`` its arguments as ``ServeSettings``."""
    command = [str(Path(sys.executable).with_name("serve")), "run", "demur.serving:app"]
    done = subprocess.run(
        [*command, "threshold=much"], capture_output=True, text=True, timeout=STARTING
    )
    assert done.returncode != 0
    assert "validation error for ServeSettings\nthreshold\n" in done.stderr


@pytest.mark.parametrize("replicas", ["1", "9999"])
def test_what_cannot_be_served_is_told(tmp_path: Path, replicas: str) -> None:
    """What the replicas raise, and that there are too many of them for this machine: Serve would
    tell the one in a log of its own, and wait for ever for the other."""
    policy = tmp_path / "policy.yaml"
    remote = '{url: "http://127.0.0.1:9", protocol: tei, api_key_env: DEMUR_NO_KEY}'
    policy.write_text(f"version: 1\ndetector: {{stages: [remote], remote: {remote}}}\n")
    command = [DEMUR, "serve", "--policy", str(policy), "--port", str(free_port())]
    done = subprocess.run(
        [*command, "--replicas", replicas],
        capture_output=True,
        text=True,
        timeout=STARTING,
        check=False,
    )
    told = "'DEMUR_NO_KEY' is not set" if replicas == "1" else "--replicas 9999 with --cpus 1 need"
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def serving(address: str, name: str, port: int) -> subprocess.Popen[str]:
    command = [DEMUR, "serve", "--ray", address, "--name", name, "--port", str(port)]
    return subprocess.Popen([*command, "--cpus", "0.5"], stderr=subprocess.PIPE, text=True)


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where Ray notes the cluster that was started last; a socket's path may not be long."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.mark.usefixtures("own_files")
def test_a_cluster_that_serves_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve has one port and one application at its root: that it is another one is told, and the
    application that runs there goes on."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray = Path(sys.executable).with_name("ray")
    own = free_port()
    start = [ray, "start", "--head", "--block", "--port", str(own), "--num-cpus", "2"]
    head = subprocess.Popen(
        [*start, "--include-dashboard=false", "--disable-usage-stats"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    running = []
    try:
        assert head.stdout is not None
        assert any("runtime started" in line for line in head.stdout)
        port = free_port()
        first = serving(f"127.0.0.1:{own}", "one", port)
        running.append(first)
        assert first.stderr is not None
        assert any(line.startswith("serving on") for line in first.stderr)
        for name, at, told in (("two", port, 'used by application "one"'), ("one", 1, "--port 1:")):
            other = serving(f"127.0.0.1:{own}", name, at)
            running.append(other)
            _, said = other.communicate(timeout=STARTING)
            assert told in said.splitlines()[-1]
            assert other.returncode == 2
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as well:
                assert well.status == 200
    finally:
        for process in (*running, head):
            process.terminate()
            process.communicate(timeout=60)

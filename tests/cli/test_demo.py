"""``demur demo``, run for real: it shows what happens, and says so if that is not what should."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("openai")

from demur.cli import main
from demur.cli.demo import gateway, performance
from demur.cli.demo.asking import Heard
from demur.cli.demo.cast import ANSWER, REFUSAL
from demur.cli.demo.scenes import SCENES, Cut, Seen, verify

COMMAND = [sys.executable, "-c", "from demur.cli import main; main()", "demo"]
HOSTILE = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "LITELLM_MASTER_KEY": "sk-another",
    "OPENAI_API_KEY": "sk-another",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
}
"""A user's settings, none of which may matter."""

needs_proxy = pytest.mark.skipif(gateway.missing() is not None, reason=str(gateway.missing()))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``demur demo --json`` prints, with the proxy where it can be started."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, **HOSTILE, "TMPDIR": str(folder)}
    done = subprocess.run(
        [*COMMAND, "--json"],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    assert done.stderr == ""
    assert list(folder.iterdir()) == []
    assert running(folder) == []
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def running(folder: Path) -> list[int]:
    """Processes that were started with a path in ``folder``; none are seen without /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(int(entry.parent.name))
    return found


def scenes(told: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    found = {scene["name"]: scene for scene in told["scenes"]}
    return [found[name] for name in names if name in found]


def test_all_went_as_it_should(told: dict[str, Any]) -> None:
    """Every scene was played, every check held, and the proxy ran where it is installed."""
    assert told["ok"] is True
    assert all(check["holds"] for scene in told["scenes"] for check in scene["checks"])
    reason = gateway.missing()
    assert told["proxy"]["ran"] is (reason is None)
    assert told["proxy"]["left_out"] == reason
    expected = [s.name for s in SCENES if reason is None or s.via == "client"]
    assert [scene["name"] for scene in told["scenes"]] == expected


def test_a_refusal_is_seen_without_demur_and_not_with_it(told: dict[str, Any]) -> None:
    """Whole and streamed, in the client and the proxy, the fallback's text arrives alone."""
    found = scenes(told, "client-plain", "client-stream", "proxy-plain", "proxy-stream")
    for scene in found:
        assert scene["without"]["text"] == REFUSAL
        assert scene["demur"]["text"] == ANSWER
        outcome = scene["outcome"]
        assert (outcome["ending"], outcome["fell_back"]) == ("fell_back", True)
        refused, served = outcome["attempts"]
        assert refused["verdict"]["label"] == "refusal"
        assert refused["verdict"]["score"] >= refused["verdict"]["threshold"]
        assert refused["verdict"]["stage"] == "embedded"
        assert served["verdict"]["label"] == "normal"
        assert outcome["added_seconds"] > 0
    for scene in scenes(told, "client-plain", "proxy-plain"):
        assert scene["outcome"]["refused_usage"]["output_tokens"] == len(REFUSAL.split())


def test_refused_streams_are_cut_and_answers_keep_their_pieces(told: dict[str, Any]) -> None:
    """The refused connection is closed early; what is released comes as it was sent."""
    for scene in scenes(told, "client-stream", "proxy-stream"):
        assert scene["cut"]["cut"] is True
        assert 0 < scene["cut"]["sent"] < scene["cut"]["of"]
        assert scene["outcome"]["held_seconds"] is not None
    for scene in scenes(told, "client-stream", "answer"):
        assert [piece.strip() for piece in scene["demur"]["pieces"]] == (
            scene["demur"]["text"].split()
        )


def test_what_is_not_refused_or_cannot_be_helped_is_as_without_demur(told: dict[str, Any]) -> None:
    """An answer, a tool call and the refusal of a chain that only refuses are left alone."""
    for scene in scenes(told, "answer", "tool-call", "exhausted", "proxy-exhausted"):
        for key in ("model", "text", "pieces", "tools"):
            assert scene["demur"][key] == scene["without"][key]
    (tool_call,) = scenes(told, "tool-call")
    assert tool_call["demur"]["tools"] == ["list_processes"]


@needs_proxy
def test_the_proxys_headers_are_shown(told: dict[str, Any]) -> None:
    """Headers of both proxied requests name the fallback."""
    for scene in scenes(told, "proxy-plain", "proxy-stream"):
        headers = scene["headers"]
        assert headers["x-demur-served-model"] == "helpful"
        assert headers["x-demur-label"] == "normal"
        assert headers["x-demur-attempts"] == "2"


def test_the_show_puts_both_texts_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: both answers in one row, the attempts, the cut, and a summary."""
    monkeypatch.setattr(performance, "SCENES", SCENES[:2])
    result = CliRunner().invoke(main, ["demo", "--no-proxy"])
    assert result.exit_code == 0, result.output
    (row, *_) = [line for line in result.stdout.splitlines() if "I'm sorry, but" in line]
    assert "Ask it to stop first" in row
    assert "connection cut after" in result.stdout
    assert "Without the proxy: --no-proxy" in result.stdout
    assert "2 refusals" in result.stdout


def test_it_fails_if_demur_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrapper that leaves refusals alone the demo says what is wrong, and exits with 1."""
    monkeypatch.setattr(performance, "SCENES", SCENES[:1])
    monkeypatch.setattr(performance, "wrap", lambda client, policy: client)
    result = CliRunner().invoke(main, ["demo", "--no-proxy"])
    assert result.exit_code == 1
    assert "not so: the caller got the fallback's answer" in result.stdout
    assert "Not all went as it should have" in result.stderr


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"text": REFUSAL[:9] + ANSWER}, "the caller got one model's text, whole"),
        ({"headers": {}}, "the headers name the served model"),
    ],
)
def test_checks_notice(change: dict[str, Any], claim: str) -> None:
    """A leaked word and a missing header are found."""
    scene = next(scene for scene in SCENES if scene.name == "proxy-stream")
    good = Heard(
        "helpful", ANSWER, ("a", "b"), (), 0.1, 0.2, {"x-demur-served-model": "helpful"}, None
    )
    before = replace(good, model="cautious", text=REFUSAL, headers={})
    attempts = [{"verdict": {"label": "refusal"}}, {"verdict": {"label": "normal"}}]
    record = {"ending": "fell_back", "attempts": attempts}
    seen = Seen(scene, before, good, record, Cut(cut=True, sent=3, of=9))
    assert [check.claim for check in verify(seen) if not check.holds] == []
    failed = verify(replace(seen, demur=replace(good, **change)))
    assert claim in [check.claim for check in failed if not check.holds]
    (not_cut,) = [c for c in verify(replace(seen, cut=Cut(cut=False, sent=9, of=9))) if not c.holds]
    assert not_cut.claim == "the refused connection was cut"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
def test_a_proxy_that_does_not_start_shows_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its last lines and its exit status are told, and the demo exits with 1."""
    broken = tmp_path / "litellm"
    broken.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(gateway, "_script", lambda: str(broken))
    monkeypatch.setattr(gateway, "_PROXY_PACKAGES", ())
    monkeypatch.setattr(performance, "SCENES", SCENES[:1])
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "exit status 3" in result.stderr
    assert "out of luck" in result.stderr
    assert "Traceback" not in result.output


@needs_proxy
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C or a termination ends the proxy too, removes its files, and shows no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Where the tests run in a shell's background, children are born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 30
    while not running(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert running(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert errors.strip() == ""
    assert running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shown", [[], ["--json"]], ids=["show", "json"])
def test_without_openai_it_says_what_to_install(shown: list[str]) -> None:
    """A missing SDK is one line that names the extra, and exit status 2; no show begins."""
    code = "import sys; sys.modules['openai'] = None; from demur.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--no-proxy", *shown],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'demur[openai]'" in done.stderr
    assert "Traceback" not in done.stderr

"""``demur demo`` runs for real and checks itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")

DEMUR = str(Path(sys.executable).with_name("demur"))
PROXY = shutil.which("litellm", path=str(Path(sys.executable).parent))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEMUR, "demo", *arguments], capture_output=True, text=True, timeout=150, check=False
    )


def test_the_demo_shows_what_should_happen():
    """Everything it can show here it shows: each caller got what it should have got."""
    done = run("--json", *([] if PROXY else ["--no-proxy"]))
    assert done.returncode == 0, done.stderr
    scenes = json.loads(done.stdout)["scenes"]
    assert len(scenes) >= 5
    assert all(scene["ok"] for scene in scenes)


def test_the_demo_is_readable():
    """On a plain terminal it shows both answers, the attempts, and how the refused stream ended."""
    done = run("--no-proxy")
    assert done.returncode == 0, done.stderr
    for word in ("without demur", "with demur", "never seen", "connection cut", "embedded"):
        assert word in done.stdout

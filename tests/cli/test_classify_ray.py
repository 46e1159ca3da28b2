"""``demur classify --ray``: what comes out is what comes out without it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demur.cli.bulk import BLOCK, Source, judged_block
from demur.detection.building import build_detector
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence

DEMUR = str(Path(sys.executable).with_name("demur"))
REFUSAL = "I'm sorry, but I can't help with that request."
with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs demur[serve]")


def row(number: int) -> dict[str, Any]:
    text = (
        f"{REFUSAL} ({number})"
        if number % 3 == 0
        else f"Sure! Here are three ideas for garden number {number}."
    )
    return {"choice": {"text": None if number % 50 == 0 else text}, "model": f"m{number % 2}"}


def written(path: Path, count: int) -> Path:
    lines = [json.dumps(row(number)) + "\n" + "\n" * (number % 7 == 0) for number in range(count)]
    data = "".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def classify(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEMUR, "classify", *map(str, arguments), "--field", "choice.text"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "RAY_worker_niceness": "0"},  # else a busy machine starves the workers
    )


def test_blocks_hold_every_row_in_order(tmp_path: Path) -> None:
    """Blocks are bounded; the last one says what could not be read, and where."""
    path = written(tmp_path / "rows.jsonl", 2 * BLOCK + 10)
    blocks = list(Source(str(path), "choice.text", "model").blocks())
    assert [len(block["text"]) for block in blocks] == [BLOCK, BLOCK, 10]
    texts = [text for block in blocks for text in block["text"]]
    assert texts == [row(n)["choice"]["text"] or "" for n in range(len(texts))]
    assert blocks[-1]["done"][-1] == path.stat().st_size
    assert {group for block in blocks for group in block["group"]} == {"m0", "m1"}
    path.write_bytes(path.read_bytes() + b"{}\n")
    *_, last = Source(str(path), "choice.text", "model").blocks()
    assert len(last["text"]) == 11
    assert f"{path}:" in last["error"][-1]
    assert "no field 'choice.text'" in last["error"][-1]


def test_a_process_judges_as_the_detector_does() -> None:
    """Verdict by verdict; a row that could not be read keeps its error."""
    texts = [REFUSAL, "Canberra.", "", "lost"]
    block = {
        "text": texts, "group": ["g"] * 4, "done": [1, 2, 3, 4], "error": ["", "", "", "line 4"],
    }  # fmt: skip
    found = judged_block(block, DetectorSettings().model_dump_json())
    assert found["error"] == ["", "", "", "line 4"]
    detector = build_detector(DetectorSettings())
    for text, verdict in zip(texts[:3], found["verdict"], strict=False):
        expected = detector.classify(Evidence(text))
        assert json.loads(verdict)["label"] == expected.label
        assert json.loads(verdict)["score"] == expected.score


def test_without_ray_or_without_a_file(tmp_path: Path) -> None:
    """A clear error each."""
    done = classify("no such text", "--ray")
    assert done.returncode == 2
    assert "--ray judges files" in done.stderr
    if importlib.util.find_spec("ray") is None:
        done = classify(written(tmp_path / "rows.jsonl", 2), "--ray")
        assert done.returncode == 2
        assert "pip install 'demur[serve]'" in done.stderr


@with_ray
def test_the_output_is_the_same(tmp_path: Path) -> None:
    """Byte for byte, in the file's order, from JSON lines, gzipped too."""
    path = written(tmp_path / "rows.jsonl.gz", 1200)
    plain, ray = classify(path, "--json"), classify(path, "--json", "--ray", "--workers", "2")
    assert ray.returncode == 0, ray.stderr
    assert len(plain.stdout.splitlines()) == 1200
    assert ray.stdout == plain.stdout


@with_ray
def test_parquet(tmp_path: Path) -> None:
    """The same rows from Parquet give the same rates."""
    import pyarrow
    import pyarrow.parquet

    lines = written(tmp_path / "rows.jsonl", 600)
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(n) for n in range(600)]), path)
    plain, ray = classify(lines, "--by", "model"), classify(path, "--by", "model", "--ray")
    assert ray.returncode == 0, ray.stderr
    assert ray.stdout == plain.stdout
    assert "600" in ray.stdout


@with_ray
def test_a_bad_line_is_told_after_what_was_judged(tmp_path: Path) -> None:
    """As without Ray: what came before stands on standard output, the error says where."""
    path = written(tmp_path / "rows.jsonl", 700)
    path.write_bytes(path.read_bytes() + b"no JSON\n" + json.dumps(row(1)).encode())
    plain, ray = classify(path, "--json"), classify(path, "--json", "--ray")
    assert (plain.returncode, ray.returncode) == (2, 2)
    assert ray.stdout == plain.stdout
    assert ray.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


@with_ray
def test_half_a_surrogate_pair_is_judged(tmp_path: Path) -> None:
    """JSON can hold one, as of a text that was cut; it is judged as without Ray."""
    path = written(tmp_path / "rows.jsonl", 5)
    odd = json.dumps({"choice": {"text": REFUSAL + " \ud83d"}, "model": "\ud83d"})
    path.write_text(path.read_text() + odd + "\n")
    for options in (["--json"], ["--by", "model"]):
        ray = classify(path, "--ray", *options)
        assert ray.returncode == 0, ray.stderr
        assert ray.stdout == classify(path, *options).stdout


@with_ray
def test_a_detector_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    """As without Ray: in one line, with the remedy."""
    remote = '{url: "http://127.0.0.1:9", protocol: tei, api_key_env: DEMUR_NO_KEY}'
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\ndetector: {{stages: [remote], remote: {remote}}}\n")
    path = written(tmp_path / "rows.jsonl", 5)
    ray, plain = (classify(path, "--policy", policy, *more) for more in (["--ray"], []))
    assert (ray.returncode, plain.returncode) == (2, 2)
    assert "'DEMUR_NO_KEY' is not set" in ray.stderr
    assert ray.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    assert "Traceback" not in ray.stderr


@with_ray
def test_a_cluster_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says where Ray was looked for and what to do, without a traceback."""
    monkeypatch.setenv("RAY_ADDRESS", "not-a-scheme://nowhere")
    done = classify(written(tmp_path / "rows.jsonl", 2), "--ray")
    assert done.returncode == 2
    assert "RAY_ADDRESS is not-a-scheme://nowhere" in done.stderr
    assert "leave --ray out" in done.stderr
    assert "Traceback" not in done.stderr

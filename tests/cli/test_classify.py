"""``demur classify``: texts, files, standard input, and errors that say where."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from demur.cli import main
from demur.cli.classify import _settings

REFUSAL = "I'm sorry, but I can't help with that request."
ANSWER = "The capital of Australia is Canberra."
DEMUR = str(Path(sys.executable).with_name("demur"))


def demur(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["classify", *arguments], input=stdin)


def rows(*texts: Any, field: str = "response") -> bytes:
    return b"".join(json.dumps({field: text}).encode() + b"\n" for text in texts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logs.jsonl"
    path.write_bytes(rows(REFUSAL, ANSWER, ""))
    return path


@pytest.mark.parametrize("stages", ["signals, embedded", "signals, embedded, transformer"])
def test_a_named_model_reads_every_text(tmp_path: Path, stages: str) -> None:
    """Whatever the policy's stages: no other reader stands before it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\ndetector: {{stages: [{stages}]}}\n")
    settings = _settings(policy, "m", None)
    assert settings.stages == ("signals", "transformer")
    assert settings.transformer is not None
    assert settings.transformer.model == "m"


def failed(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_text() -> None:
    """A text gets one line for a reader, or one object with --json."""
    result = demur(REFUSAL)
    assert result.exit_code == 0
    assert result.stdout.startswith("refusal")
    assert "by embedded" in result.stdout
    read = json.loads(demur(ANSWER, "--json").stdout)
    assert list(read) == ["index", "label", "score", "stage", "kind"]
    assert (read["index"], read["label"], read["stage"], read["kind"]) == (
        0,
        "normal",
        "embedded",
        None,
    )


def test_empty_text() -> None:
    """Nothing at all is a refusal of kind empty."""
    read = json.loads(demur("", "--json").stdout)
    assert (read["label"], read["stage"], read["kind"]) == ("refusal", "signals", "empty")


def test_file(file: Path) -> None:
    """A file gives an object a line, in order."""
    result = demur(str(file), "--field", "response", "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    read = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["index"], row["label"]) for row in read] == [
        (0, "refusal"),
        (1, "normal"),
        (2, "refusal"),
    ]
    assert all(0.0 <= row["score"] <= 1.0 for row in read)


def test_table(file: Path) -> None:
    """Without --json a file gives rates of each label."""
    result = demur(str(file))
    assert result.exit_code == 0
    assert "2 (66.7%)" in result.stdout
    assert "1 (33.3%)" in result.stdout
    assert "0 (0.0%)" in result.stdout


def test_table_by_model(tmp_path: Path) -> None:
    """With --by there are rates for each value, whatever the values hold."""
    path = tmp_path / "logs.jsonl"
    models = ["a", "[red]b[/x]", "a", None, "\x1b[31m"]
    path.write_text(
        "".join(json.dumps({"model": model, "response": ANSWER}) + "\n" for model in models)
    )
    out = demur(str(path), "--by", "model").stdout
    assert "[red]b[/x]" in out
    assert "null" in out
    assert "\x1b" not in out
    assert [line.split()[1:3] for line in out.splitlines() if " all " in line] == [
        ["all", "\u2502"]
    ]


@pytest.mark.parametrize("compress", [False, True])
def test_standard_input(compress: bool) -> None:
    """A dash reads standard input, gzipped or not."""
    data = rows(REFUSAL, ANSWER)
    result = demur("-", "--json", stdin=gzip.compress(data) if compress else data)
    assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == [
        "refusal",
        "normal",
    ]


def test_gzipped_file(tmp_path: Path) -> None:
    """Gzip is known by its bytes, whatever the name."""
    for name in ("logs.jsonl.gz", "logs.jsonl"):
        (tmp_path / name).write_bytes(gzip.compress(rows(ANSWER)))
        assert demur(str(tmp_path / name), "--json").exit_code == 0


def test_blank_lines_marks_and_line_ends(tmp_path: Path) -> None:
    """Blank lines are no rows; a byte order mark and CRLF are no errors."""
    path = tmp_path / "logs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + rows(ANSWER).replace(b"\n", b"\r\n\r\n \n") + rows(REFUSAL))
    read = [json.loads(line) for line in demur(str(path), "--json").stdout.splitlines()]
    assert [(row["index"], row["label"]) for row in read] == [(0, "normal"), (1, "refusal")]


def test_nested_fields() -> None:
    """Dots lead into objects and arrays; a field whose name has dots comes first."""
    body = {"choices": [{"message": {"content": REFUSAL}}], "a.b": ANSWER, "a": {"b": REFUSAL}}
    data = json.dumps(body).encode()
    result = demur("-", "--json", "--field", "choices.0.message.content", stdin=data)
    assert json.loads(result.stdout)["label"] == "refusal"
    assert (
        json.loads(demur("-", "--json", "--field", "a.b", stdin=data).stdout)["label"] == "normal"
    )


def test_null_is_an_empty_text() -> None:
    """A null is judged as an empty text."""
    assert json.loads(demur("-", "--json", stdin=rows(None)).stdout)["kind"] == "empty"


def test_missing_field(tmp_path: Path) -> None:
    """A missing field is named with its line and what there is instead."""
    path = tmp_path / "logs.jsonl"
    path.write_bytes(rows(ANSWER) + rows(ANSWER, field="answer"))
    result = demur(str(path), "--json")
    failed(result, f"{path}:2", "'response'", "'answer'", "--field")
    assert len(result.stdout.splitlines()) == 1
    failed(demur(str(path), "--field", "response.0.x"), f"{path}:1", "a text")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"response": ', ("not JSON", "one JSON object a line")),
        (b"[1]", ("an array", "object")),
        (b'"text"', ("a text", "object")),
        (b"7", ("a number",)),
        (b'{"response": 7}', ("holds a number", "--field")),
        (b'{"response": {"text": "a"}}', ("holds an object", "--field")),
        (b"\x89PNG\r\n", ("not UTF-8",)),
        (b"\x00\x01\x02", ("not JSON",)),
        (b"[" * 100_000, ("cannot be read",)),
        (b'{"response": ' + b"1" * 5000 + b"}", ("cannot be read",)),
        (b"\x1f\x8b\x08broken", ("gzip", "damaged")),
    ],
)
def test_bad_lines(tmp_path: Path, line: bytes, words: tuple[str, ...]) -> None:
    """A line that cannot be used is named with file, line and what to do; nothing else is shown."""
    path = tmp_path / "logs.jsonl"
    path.write_bytes(line)
    failed(demur(str(path), "--json"), f"{path}:1", *words)
    failed(demur("-", stdin=line), "<stdin>:1", *words)


def test_cut_off_gzip(tmp_path: Path) -> None:
    """Rows before the place where a file was cut off are judged, then it is told."""
    path = tmp_path / "logs.jsonl.gz"
    data = gzip.compress(rows(*(f"{ANSWER} {os.urandom(50).hex()}" for _ in range(2000))))
    path.write_bytes(data[: len(data) // 2])
    result = demur(str(path), "--json")
    failed(result, str(path), "cut off")
    assert len(result.stdout.splitlines()) > 100


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.jsonl.gz", "logs/gone.json", "gone.parquet"])
def test_missing_file(name: str) -> None:
    """What looks like a file and is none is not judged as a text, unless that is asked for."""
    failed(demur(name), name, "no such file")
    assert demur(name, "--text").exit_code == 0


def test_unreadable_sources(tmp_path: Path) -> None:
    """A directory, an empty file, and Parquet without --ray are told."""
    failed(demur(str(tmp_path)), str(tmp_path), "directory")
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    failed(demur(str(tmp_path / "empty.jsonl")), "no rows")
    (tmp_path / "a.parquet").write_bytes(b"PAR1\x15\x04\x15\xff")
    failed(demur(str(tmp_path / "a.parquet")), "a.parquet", "give --ray")


def test_policy(tmp_path: Path) -> None:
    """A policy's detector settings are used, and --threshold goes before its thresholds."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\ndetector: {thresholds: {refusal: 0.0}}\n")
    assert demur(ANSWER, "--policy", str(policy)).stdout.startswith("refusal")
    policy.write_text("version: 1\ndetector: {stages: [signals]}\n")
    assert "by signals" in demur(REFUSAL, "--policy", str(policy)).stdout
    policy.write_text("version: 1\ndetectors: {}\n")
    result = demur(ANSWER, "--policy", str(policy))
    assert result.exit_code == 2
    assert str(policy) in result.stderr
    assert "detectors" in result.stderr


def test_missing_model(tmp_path: Path) -> None:
    """A model that is not there is named."""
    pytest.importorskip("transformers")
    failed(demur(ANSWER, "--model", str(tmp_path / "gone")), "gone", "no such folder")


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x00\x1b[31m\u202e", "\ud800", "a\nb"])
def test_odd_texts(text: str) -> None:
    """A megabyte, control characters and lone surrogates are judged."""
    data = json.dumps({"response": text}).encode()
    assert demur("-", "--json", stdin=data).exit_code == 0


def test_as_a_program(file: Path) -> None:
    """The installed command reads a pipe and writes plain text; without a terminal no bar."""
    done = subprocess.run(
        [DEMUR, "classify", "-", "--json"],
        input=file.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == b""


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """Where standard error is a terminal a bar is drawn there, and none of it in the output."""
    path = tmp_path / "logs.jsonl"
    path.write_bytes(rows(*[ANSWER] * 300))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.Popen(
        [DEMUR, "classify", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
    )
    out, _ = done.communicate(timeout=60)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        drawn += piece
    os.close(ours)
    assert done.returncode == 0
    assert b"classifying" in drawn
    assert len([json.loads(line) for line in out.splitlines()]) == 300

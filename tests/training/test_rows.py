"""Reading labelled responses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from demur.errors import InputError
from demur.training.recipe import Lean
from demur.training.rows import Row, clean, lean, once_a_question, read_rows


def write(path: Path, *lines: str) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_are_read(tmp_path: Path, name: str) -> None:
    """Plain and gzipped, blank lines left out, missing fields empty."""
    line = json.dumps({"response": "No.", "label": 1, "lang": "en", "partial": True})
    rows = read_rows(write(tmp_path / name, line, "", '{"response": "Yes", "label": 0}'))
    assert [(r.response, r.label, r.partial) for r in rows] == [("No.", 1, True), ("Yes", 0, False)]
    assert clean(rows) == rows[1:]


def test_a_null_says_as_little_as_a_missing_field(tmp_path: Path) -> None:
    """A row of no known model is not of a model named None; its place is its id."""
    names = ("id", "source", "licence", "model", "lang", "prompt", "kind")
    row = {"response": "Yes", "label": 0}
    path = write(tmp_path / "rows.jsonl", json.dumps(row | dict.fromkeys(names)))
    bare = write(tmp_path / "bare.jsonl", json.dumps(row))
    assert read_rows(path) == read_rows(bare)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "not JSON"),
        ("[1]", "'response'"),
        ('{"label": 1}', "'response'"),
        ('{"response": "a", "label": "refusal"}', 'label "refusal"'),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, says: str) -> None:
    """The error names file and line and what is wrong."""
    path = write(tmp_path / "rows.jsonl", '{"response": "ok", "label": 0}', line)
    with pytest.raises(InputError, match=r"rows\.jsonl:2") as raised:
        read_rows(path)
    assert says in str(raised.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """Missing, empty and damaged files are told apart."""
    with pytest.raises(InputError, match="no such file"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no rows"):
        read_rows(write(tmp_path / "empty.jsonl"))
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "bad.jsonl.gz")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"response": "a", "label": ' + b"1" * 5000 + b"}", "JSON that cannot be read"),
        (b"[" * 100_000, "JSON that cannot be read"),
        (b'{"response": "\xff", "label": 1}', "not UTF-8"),
    ],
)
def test_unreadable_lines_are_named(tmp_path: Path, line: bytes, told: str) -> None:
    """A number too long, deep nesting and other encodings give file and line; a BOM is none."""
    path = tmp_path / "rows.jsonl"
    first = b'\xef\xbb\xbf{"response": "ok", "label": 0}\n'
    path.write_bytes(first)
    assert [row.response for row in read_rows(path)] == ["ok"]
    path.write_bytes(first + line)
    with pytest.raises(InputError) as raised:
        read_rows(path)
    assert str(raised.value).startswith(f"{path}:2: {told}")


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    """Gzip data that is broken inside is told as such."""
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}")[:10] + b"\xff" * 40)
    with pytest.raises(InputError, match="damaged or cut off"):
        read_rows(path)


def test_leaning_rows_become_clean() -> None:
    """Partial rows of a named source and label are used, with their weight; others stay partial."""
    rows = [
        Row("a", 1, source="s", partial=True),
        Row("b", 0, source="s", partial=True),
        Row("c", 1, source="s"),
    ]
    found = lean(rows, [Lean(source="s", label=1, weight=0.4)])
    assert [(r.partial, r.weight) for r in found] == [(False, 0.4), (True, 1.0), (False, 1.0)]


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    """A packed file is read whatever it is called, and so is a plain one."""
    line = b'{"response": "no", "label": 1}\n'
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(line))
    (tmp_path / "plain.gz").write_bytes(line)
    for name in ("packed.jsonl", "plain.gz"):
        assert [row.label for row in read_rows(tmp_path / name)] == [1]


def test_a_question_counts_once() -> None:
    """Rows of one label that answer one question share its weight; others have their own."""
    rows = [
        Row("a", 0, prompt="p"),
        Row("b", 0, prompt="p"),
        Row("c", 1, prompt="p"),
        Row("d", 0, prompt="q"),
        Row("e", 0),
        Row("f", 0),
    ]
    assert once_a_question(rows) == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_prompts_are_read_where_they_are_given(tmp_path: Path) -> None:
    """A missing, null or blank prompt is no question."""
    path = tmp_path / "rows.jsonl"
    prompts = ('"Why?"', "null", '" "', '"Why?\\n"')
    lines = [f'{{"response": "ok", "label": 0, "prompt": {prompt}}}' for prompt in prompts]
    path.write_text("\n".join([*lines, '{"response": "ok", "label": 0}']), encoding="utf-8")
    assert [row.prompt for row in read_rows(path)] == ["Why?", "", "", "Why?", ""]

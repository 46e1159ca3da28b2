"""What a command writes never takes the place of what it reads, and is known to be writable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demur.cli import main
from demur.policy.schema import Audit
from demur.sinks import AuditSink
from demur.vocabulary import Attempt, Evidence, Outcome, Verdict


def demur(*arguments: object, keys: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], input=keys)


def failed(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert all(word in result.stderr for word in words), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An audit log with a part that was rotated away, a policy, prices and labelled rows."""
    monkeypatch.chdir(tmp_path)
    sink = AuditSink(Audit(path="audit.jsonl", content="full"))
    for number in range(4):
        verdict = Verdict("refusal", 0.9, "embedded")
        text = (Evidence(f"I cannot help with {number}."),)
        attempt = Attempt("m", "m", "accepted", verdict, evidence=text)
        sink(Outcome("chat", "m", "accepted", (attempt,), 0, id=f"r{number}", time=0.0))
    sink.close()
    Path("audit.jsonl.1").write_bytes(Path("audit.jsonl").read_bytes())
    Path("p.yaml").write_text(
        "rules: [{name: n, actions: [retry], retry: {fallbacks: [second]}}]\n"
    )
    Path("prices.yaml").write_text("second: {input: 1, output: 2}\n")
    rows = [("I can't help with that.", 1), ("The capital is Canberra.", 0)] * 3
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"response": text, "label": label}) + "\n" for text, label in rows)
    )
    return tmp_path


REPLAY = ("replay", "audit.jsonl", "--policy", "p.yaml", "--prices", "prices.yaml")


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        *[
            ((*REPLAY, "--differences"), name)
            for name in ("audit.jsonl", "audit.jsonl.1", "p.yaml", "prices.yaml")
        ],
        (("report", "audit.jsonl", "--prices", "prices.yaml", "--html"), "audit.jsonl.1"),
        (("report", "audit.jsonl", "--prices", "prices.yaml", "--html"), "prices.yaml"),
        (("eval", "rows.jsonl", "--no-prefixes", "--html"), "rows.jsonl"),
        (("label", "audit.jsonl", "--out"), "audit.jsonl"),
    ],
)
def test_inputs_are_not_overwritten(place: Path, arguments: tuple[str, ...], written: str) -> None:
    """A file that is read is refused as the one to write, under another name of it too."""
    before = Path(written).read_bytes()
    Path("link").symlink_to(written)
    for name in (written, str(place / written), "link"):
        failed(demur(*arguments, name), name, "is read by this command")
        assert Path(written).read_bytes() == before


def test_a_sqlite_log_is_not_overwritten(place: Path) -> None:
    """An audit log in a SQLite file is an input as well."""
    Path("a.db").write_bytes(b"precious")
    failed(demur("report", "sqlite:///a.db", "--html", "a.db"), "a.db", "is read")
    assert Path("a.db").read_bytes() == b"precious"


def test_outputs_take_the_old_ones_place(place: Path) -> None:
    """What stood there is replaced when all is written, and stays as it was where that fails."""
    old = Path("d.jsonl")
    old.write_text("old\n")
    old.chmod(0o640)
    with Path("audit.jsonl").open("a") as log:
        log.write("nonsense\n")
    failed(demur(*REPLAY, "--differences", old), "audit.jsonl:5")
    assert old.read_text() == "old\n"
    Path("audit.jsonl").write_bytes(Path("audit.jsonl.1").read_bytes())
    assert demur(*REPLAY, "--differences", old).exit_code == 0
    assert len([json.loads(line) for line in old.read_text().splitlines()]) == 8
    assert old.stat().st_mode & 0o777 == 0o640
    assert not list(place.glob(".*"))
    assert demur(*REPLAY, "--differences", "/dev/null").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (*REPLAY, "--differences"),
        ("report", "audit.jsonl", "--html"),
        ("label", "audit.jsonl", "--out"),
    ],
)
def test_a_missing_folder_is_told(place: Path, arguments: tuple[str, ...]) -> None:
    """A file that cannot be written is told with the reason, and so is a folder."""
    failed(demur(*arguments, "gone/x", keys="n"), "gone/x", "No such file or directory")
    failed(demur(*arguments, place, keys="n"), str(place), "Is a directory")


def relabelled(change: Callable[[str], str]) -> Result:
    assert demur("label", "audit.jsonl.1", "--out", "out", keys="nnq").exit_code == 0
    Path("out").write_text(change(Path("out").read_text()))
    return demur("label", "audit.jsonl.1", "--out", "out", keys="rurq")


def test_rows_are_not_glued_together(place: Path) -> None:
    """A file of labels whose last line has no end gets the next row on a line of its own."""
    done = relabelled(lambda text: text.removesuffix("\n"))
    assert "1 labelled now, 3 in all" in done.output
    assert [json.loads(line)["label"] for line in Path("out").read_text().splitlines()] == [0, 0, 1]


def test_a_broken_label_is_named(place: Path) -> None:
    """The line that is no labelled row is named; nobody is told to remove what was labelled."""
    failed(done := relabelled(lambda text: text[:-9]), "out:2", "mend")
    assert "remove" not in done.stderr


def test_records_are_no_labels(place: Path) -> None:
    """An audit log that is not the one to label is no file of labels either."""
    Path("other.jsonl").write_bytes(Path("audit.jsonl").read_bytes())
    failed(demur("label", "audit.jsonl", "--out", "other.jsonl", keys="n"), "other.jsonl:1")
    assert Path("other.jsonl").read_bytes() == Path("audit.jsonl").read_bytes()


def test_a_page_that_cannot_be_written_costs_no_measurement(place: Path) -> None:
    """``demur eval --html`` tells it before anything is measured."""
    failed(demur("eval", "rows.jsonl", "--html", "/nonexist/x.html"), "/nonexist/x.html")


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/x/y"])
def test_folders_are_checked_first(place: Path, folder: str) -> None:
    """A folder that cannot be made is told before a model is exported or trained."""
    pytest.importorskip("torch")
    failed(demur("export", "gone", "--to", folder), folder, "cannot be written")
    Path("r.yaml").write_text("seed: 1\n")
    failed(demur("train", "r.yaml", "--into", folder), folder, "cannot be written")
    assert not list(place.glob("tmp*"))

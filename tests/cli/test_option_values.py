"""Values and pairs of options that no command can use, and data that looks like markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demur.cli import main
from demur.sinks import to_record
from demur.vocabulary import Attempt, Outcome, Verdict


def demur(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = {"model": "[/red]", "lang": "[/b]", "source": "[/i]\x1b[31m", "id": "[/u]"}
    plain = {"model": "m", "lang": "en", "source": "s", "id": "i", "label": 1}
    data = [
        {**odd, "response": "I can't help with that.", "label": 0, "[/x]": "[/y]"},
        {**plain, "response": "Leider kann ich dabei nicht helfen."},
        {**plain, "response": "The capital is Canberra."},
    ]
    Path("l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    Path("s.jsonl").write_text(
        "".join(json.dumps({"score": n / 9, "label": n // 5}) + "\n" for n in range(10))
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("classify x --threshold nan", "'nan' is not a number"),
        ("classify l.jsonl --workers 2", "only --ray works with several processes"),
        ("classify l.jsonl --by model --json", "--by: the rates are a table, which --json"),
        ("classify Yes --by model", "--by: a single text has no fields"),
        ("serve --threshold nan", "'nan' is not a number"),
        ("export m --to x --least nan", "'nan' is not a number"),
        ("train r.yaml --every nan", "'nan' is not a number"),
        ("tune s.jsonl --precision nan", "'nan' is not a number"),
        ("eval l.jsonl --threshold nan", "'nan' is not a number"),
        ("eval l.jsonl --band nan nan", "'nan' is not a number"),
        ("eval l.jsonl --band 0.9 0.1", "lower score first"),
        ("eval l.jsonl --seed -1", "--seed"),
        ("eval l.jsonl --mistakes -1", "--mistakes"),
        ("tune s.jsonl --precision 0.9 --seed -1", "--seed"),
        ("eval l.jsonl --detector embedded --detector embedded --cascade", "given twice"),
        ("eval l.jsonl --detector keywords --detector keywords", "given twice"),
        (f"serve --replicas {'9' * 5000}", "--replicas"),
        ("serve --replicas 2:x", "--replicas"),
        ("serve --replicas 8:2", "Error: --replicas 8:2: give the smaller number first, as 2:8\n"),
    ],
)
def test_useless_values_are_refused(rows: None, line: str, says: str) -> None:
    """The option and what is wrong are named, with exit status 2."""
    done = demur(*line.split())
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr) < 400


def test_brackets_are_no_markup(rows: None) -> None:
    """Ids, models, languages and sources stand in the tables as they are in the rows."""
    done = demur("eval", "l.jsonl", "--no-prefixes", "--band", "0.2", "0.9")
    assert done.exit_code == 0, done.output
    assert all(word in done.stdout for word in ("[/red]", "[/b]", "[/u]"))
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "eval long.jsonl --no-prefixes",
        "classify long.jsonl --by model",
        "replay a.jsonl --policy p",
    ],
)
def test_long_names_are_whole(rows: None, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """In a narrow terminal and in a pipe they go on below; cut off they might be another's."""
    names = [f"provider/model-large-2026-instruct-{n}" for n in (1, 2)]
    data = [{"response": "Yes.", "label": 1, "id": name, "model": name} for name in names]
    Path("long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    verdict = Verdict("refusal", 0.9, "embedded")
    with Path("a.jsonl").open("w") as log:
        for name in names:
            attempts = (Attempt(name, name, "accepted", verdict),)
            outcome = Outcome("chat", name, "accepted", attempts, 0, id="r", time=0.0, rule=name)
            log.write(json.dumps(to_record(outcome)) + "\n")
    Path("p").write_text("rules: [{name: a, actions: [retry], retry: {fallbacks: [b]}}]\n")
    monkeypatch.setenv("COLUMNS", "80")
    done = demur(*command.split())
    assert done.exit_code == 0, done.output
    assert "\u2026" not in done.stdout


def test_brackets_in_a_field_are_no_markup(rows: None) -> None:
    """Nor are those in the name of the field that rates are told by; rows without it are null."""
    done = demur("classify", "l.jsonl", "--by", "[/x]")
    assert done.exit_code == 0, done.output
    assert all(word in done.stdout for word in ("[/x]", "[/y]", "null", "all"))


def test_rates_by_a_field_that_is_not_there(rows: None) -> None:
    """All that was judged is shown, and the field that no row has is an error."""
    done = demur("classify", "l.jsonl", "--by", "modle")
    assert done.exit_code == 2
    assert "no row has a field 'modle'" in done.stderr
    assert "3" in done.stdout
    assert "null" not in done.stdout


def test_rates_by_a_field_inside(rows: None) -> None:
    """``--by`` follows dots, as ``--field`` does; a null is a value."""
    data = [{"response": "Yes.", "meta": {"team": team}} for team in ("a", "b", None)]
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    out = demur("classify", "d.jsonl", "--by", "meta.team").stdout
    assert [line.split()[1] for line in out.splitlines() if "%" in line] == [
        "a",
        "b",
        "null",
        "all",
    ]

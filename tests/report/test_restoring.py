"""Audit records read back: what is added is left out, what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from log_stage import week

from demur.cli import main
from demur.errors import InputError
from demur.report.restoring import restored
from demur.sinks import to_record
from demur.vocabulary import Evidence, Signal


def record() -> dict[str, Any]:
    """A record with a fallback and with content."""
    outcome = next(o for o in week(500) if len(o.attempts) > 1)
    made = to_record(outcome)
    content = {"text": "No.", "refusal": "", "non_text": False, "signals": []}
    made["attempts"][0]["content"] = [content]
    signal = {"name": "finish_reason", "value": "stop", "kind": None, "refuses": False}
    content["signals"] = [signal]
    found: dict[str, Any] = json.loads(json.dumps({**made, "content": "full"}))
    return found


def put(record: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The record with another value in a place like ``attempts.0.usage``."""
    here: Any = record
    *around, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    for part in around:
        here = here[part]
    here[last] = value
    return record


def test_a_record_comes_back() -> None:
    """What was written is what is read, content too."""
    outcome = next(o for o in week(500) if len(o.attempts) > 1)
    entry = restored(record(), "here")
    assert to_record(entry.outcome) == to_record(outcome)
    signal = Signal("finish_reason", "stop", refuses=False)
    assert entry.outcome.attempts[0].evidence == (Evidence("No.", signals=(signal,)),)
    assert entry.content == "full"


def test_fields_of_a_later_version_are_left_out() -> None:
    """A field may be added within a version of the record, at any depth."""
    places = ("attempts.0", "attempts.0.verdict", "attempts.0.usage", "attempts.0.content.0")
    later = {**record(), "added": 1}
    for place in (*places, "attempts.0.content.0.signals.0"):
        put(later, f"{place}.added", [1])
    assert restored(later, "here") == restored(record(), "here")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("ending", "vanished"),
        ("would", "vanished"),
        ("api", "telegraph"),
        ("requested_model", ["a"]),
        ("requested_model", None),
        ("rule", ["a"]),
        ("held_seconds", "long"),
        ("added_seconds", float("nan")),
        ("added_seconds", 10**400),
        ("added_seconds", 1e308),
        ("held_seconds", 1e16),
        ("attempts.0.seconds", 1e308),
        ("served", 0.0),
        ("served", 9),
        ("served", -1),
        ("time", "yesterday"),
        ("time", "0001-01-01T00:00:00"),
        ("metadata", [1]),
        ("metadata", {"a": 1}),
        ("attempts", 5),
        ("attempts.0", None),
        ("attempts.0.model", ["a"]),
        ("attempts.0.target", None),
        ("attempts.0.outcome", "lost"),
        ("attempts.0.usage", "many"),
        ("attempts.0.usage.input_tokens", "3"),
        ("attempts.0.usage.input_tokens", 10**400),
        ("attempts.0.verdict.label", "maybe"),
        ("attempts.0.verdict.label", "uncertain"),
        ("attempts.0.verdict.kind", "mood"),
        ("attempts.0.verdict.score", "0.5"),
        ("attempts.0.verdict.score", float("nan")),
        ("attempts.0.verdict.score", -1),
        ("attempts.0.content.0.text", 5),
        ("attempts.0.content.0.signals.0.kind", []),
        ("content", "some"),
        ("id", 5),
        ("started", "late"),
    ],
)
def test_a_wrong_value_is_named(place: str, value: object) -> None:
    """One line with where the record stands, the field and the remedy."""
    with pytest.raises(InputError) as caught:
        restored(put(record(), place, value), "a.jsonl:3")
    told = str(caught.value)
    assert told.startswith("a.jsonl:3: a damaged audit record (")
    assert told.endswith("); remove it")
    assert "\n" not in told


def test_commands_name_the_damaged_line(tmp_path: Path) -> None:
    """report, replay and label say which line is damaged, without a traceback."""
    log = tmp_path / "a.jsonl"
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    bad = put(record(), "attempts.0.model", ["a"])
    log.write_text("".join(json.dumps(each) + "\n" for each in (record(), bad)))
    for rest in (
        ["report", "--html", str(tmp_path / "x.html")],
        ["replay", "--policy", str(policy)],
        ["label", "--out", str(tmp_path / "labels.jsonl")],
    ):
        done = CliRunner().invoke(main, [rest[0], str(log), *rest[1:]])
        assert done.exit_code == 2, done.output
        assert f"{log}:2: a damaged audit record" in done.output

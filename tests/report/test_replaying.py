"""Replay: the same decisions as live, from the record alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from log_stage import week, write_log

from demur.cli import main
from demur.detection.cascade import Cascade
from demur.policy import load_policy
from demur.report.experience import Experience
from demur.report.reading import AuditLog
from demur.report.replaying import Replayed, enforced, replay
from demur.report.restoring import Entry
from demur.report.tallies import Comparison
from demur.sinks import to_record
from demur.testing import PhraseDetector
from demur.vocabulary import Attempt, Evidence, Outcome, Usage, Verdict

RETRY = {"actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["second"]}}


def policy(rule: Mapping[str, Any] = RETRY, **more: Any) -> Any:
    return load_policy({"version": 1, "rules": [{"name": "new", **rule}], **more})


def attempt(model: str, score: float, outcome: Any = "accepted", **more: Any) -> Attempt:
    label: Any = "refusal" if score >= 0.5 else "normal"
    verdict = Verdict(label, score, "embedded", 0.5)
    return Attempt(model, model, outcome, verdict, usage=Usage(10, 20), seconds=1.0, **more)


def outcome(*attempts: Attempt, **more: Any) -> Outcome:
    fields = {"ending": "accepted", "served": len(attempts) - 1, "rule": "old", "id": "r", **more}
    return Outcome("chat", attempts[0].model, attempts=attempts, **fields)


def run(old: Outcome, new: Any, *others: Outcome, **more: Any) -> Replayed:
    return replay(Entry(old, **more), new, Experience.of([old, *others]))


def test_same_policy_changes_nothing() -> None:
    """What the old policy did, the same policy does again: nothing differs, nothing is made up."""
    rules = [
        {"name": "coding", "match": {"model": "coder"}, **_chain()},
        {"name": "support-bot", "match": {"metadata": {"team": "support"}}, **_chain()},
        {"name": "everyone", "actions": ["tag", "log"]},
    ]
    same = load_policy({"version": 1, "detector": {"thresholds": {"refusal": 0.5}}, "rules": rules})
    outcomes = [
        replace(o, metadata=(("team", "support"),)) if o.rule == "support-bot" else o
        for o in week(2000)
    ]
    experience = Experience.of(outcomes)
    for old in outcomes:
        found = replay(Entry(old), same, experience)
        assert not found.differs
        assert not found.guessed
        assert found.new is not None
        assert (found.new.rule, found.new.added_seconds) == (old.rule, old.added_seconds)


def _chain() -> dict[str, Any]:
    retry = {"fallbacks": ["second", "local-llama"]}
    return {"actions": ["tag", "log", "retry"], "retry": retry}


def test_retrying_what_was_only_tagged() -> None:
    """A fallback nobody called goes as that model's calls went; the request counts as estimated."""
    old = outcome(attempt("primary", 0.9))
    good = outcome(attempt("x", 0.9, "refused"), attempt("second", 0.1), ending="fell_back")
    found = run(old, policy(), good)
    assert found.new is not None
    assert (found.new.ending, found.guessed, found.differs) == ("fell_back", True, True)
    assert found.new.attempts[1].usage == Usage(10, 20)
    bad = outcome(
        attempt("x", 0.9, "refused"),
        attempt("second", 0.9, "refused"),
        ending="exhausted",
        served=0,
    )
    found = run(old, policy(), bad)
    assert found.new is not None
    assert (found.new.ending, found.new.served) == ("exhausted", 0)


def test_no_longer_retrying() -> None:
    """Where the new policy only tags, the caller gets the refusal and the second call is saved."""
    old = outcome(
        attempt("primary", 0.9, "refused"),
        attempt("second", 0.1),
        ending="fell_back",
        added_seconds=1.0,
    )
    found = run(old, policy({"actions": ["tag", "log"]}))
    assert found.new is not None
    assert (found.new.ending, found.new.served, len(found.new.attempts)) == ("accepted", 0, 1)
    comparison = Comparison()
    comparison.add(found)
    assert (comparison.total.old.calls, comparison.total.new.calls) == (1, 0)
    assert (comparison.total.old.refused, comparison.total.new.refused) == (0, 1)
    assert comparison.total.new.seconds < comparison.total.old.seconds


@pytest.mark.parametrize(("threshold", "label"), [(0.4, "refusal"), (0.6, "normal")])
def test_thresholds_on_stored_scores(threshold: float, label: str) -> None:
    """Without content the score on record is held against the new threshold."""
    old = outcome(attempt("primary", 0.5))
    found = run(old, policy({"actions": ["tag"]}, detector={"thresholds": {"refusal": threshold}}))
    assert found.new is not None
    assert found.new.verdict is not None
    assert (found.new.verdict.label, found.new.verdict.threshold) == (label, threshold)


def test_signals_keep_their_word() -> None:
    """A provider's own refusal has no threshold."""
    verdict = Verdict("refusal", 1.0, "signals", 0.5, "filter")
    old = outcome(replace(attempt("primary", 1.0), verdict=verdict))
    found = run(old, policy({"actions": ["tag"]}, detector={"thresholds": {"refusal": 1.0}}))
    assert found.new is not None
    assert found.new.verdict == verdict


def test_detectors_run_again_on_content() -> None:
    """With full content the new detector judges the text; a redacted passage is not the text."""
    old = outcome(replace(attempt("primary", 0.1), evidence=(Evidence("I'm sorry, no."),)))
    detector = Cascade([PhraseDetector()])
    for content, label in (("full", "refusal"), ("redacted", "normal")):
        found = replay(
            Entry(old, content),  # type: ignore[arg-type]
            policy({"actions": ["tag"]}),
            Experience.of([old]),
            detector,
        )
        assert found.new is not None
        assert found.new.verdict is not None
        assert found.new.verdict.label == label


@pytest.mark.parametrize("fallbacks", [["second"], ["third"]])
def test_seconds_of_detection(fallbacks: list[str]) -> None:
    """What detection took is shared by the verdicts: as many take as long, whatever the course."""
    old = outcome(
        attempt("primary", 0.9, "refused"),
        attempt("second", 0.1),
        ending="fell_back",
        added_seconds=1.2,
        detection_seconds=0.2,
    )
    found = run(old, policy({**RETRY, "retry": {"fallbacks": fallbacks}}))
    assert found.new is not None
    assert found.differs is (fallbacks == ["third"])
    assert found.new.detection_seconds == pytest.approx(0.2)
    assert found.new.added_seconds == pytest.approx(1.2)


def test_seconds_of_detection_of_several_choices() -> None:
    """The choices of one response share what its verdict took."""
    choices = (Evidence("I'm sorry, no."), Evidence("I'm sorry, not that."))
    old = outcome(replace(attempt("primary", 0.1), evidence=choices), detection_seconds=0.2)
    detector = Cascade([PhraseDetector()])
    found = replay(Entry(old, "full"), policy({"actions": ["tag"]}), Experience.of([old]), detector)
    assert found.new is not None
    assert found.differs
    assert found.new.detection_seconds == pytest.approx(0.2)


def test_shadow_and_enforced() -> None:
    """A policy in shadow mode serves as before and says what it would; --enforce does it."""
    old = outcome(attempt("primary", 0.9))
    shadow = policy(mode="shadow")
    new = run(old, shadow).new
    assert new is not None
    assert (new.ending, new.would) == ("accepted", "fell_back")
    new = run(old, enforced(shadow)).new
    assert new is not None
    assert (new.ending, new.would) == ("fell_back", None)


def test_exhausted_error() -> None:
    """Where the policy asks for an error nobody is served."""
    new = run(outcome(attempt("primary", 0.9)), policy({"actions": ["log", "error"]})).new
    assert new is not None
    assert (new.ending, new.served) == ("exhausted", None)


def test_no_rule() -> None:
    """A request the new policy does not match is untouched: the first answer is served."""
    old = outcome(attempt("primary", 0.9, "refused"), attempt("second", 0.1), ending="fell_back")
    found = run(old, policy({**RETRY, "match": {"model": "other"}}))
    assert (found.new, found.differs) == (None, True)
    comparison = Comparison()
    comparison.add(found)
    assert (comparison.total.new.refused, comparison.total.new.calls) == (1, 0)
    assert (None, "primary") in comparison.groups


@pytest.mark.parametrize("ending", ["failed", "abandoned"])
def test_what_no_policy_changes(ending: Any) -> None:
    """A call that failed, or a caller that left, stays as it was."""
    old = outcome(attempt("primary", 0.9, ending), ending=ending, served=None)
    assert not run(old, policy()).differs


def test_records_come_back(tmp_path: Path) -> None:
    """What the audit log wrote is read back as the same outcomes, rotated files first."""
    outcomes = list(week(300))
    for number, part in ((2, outcomes[:100]), (1, outcomes[100:200]), (0, outcomes[200:])):
        name = f"audit.jsonl.{number}" if number else "audit.jsonl"
        lines = [json.dumps(to_record(o)) + "\n" for o in part]
        (tmp_path / name).write_text("".join(lines))
    read = [entry.outcome for entry in AuditLog([str(tmp_path / "audit.jsonl")])]
    assert [o.id for o in read] == [o.id for o in outcomes]
    assert [to_record(o) for o in read] == [to_record(o) for o in outcomes]


def test_database_comes_back(tmp_path: Path) -> None:
    """A database gives the same records as a file."""
    from demur.policy.schema import Audit
    from demur.sinks import AuditSink

    url = f"sqlite:///{tmp_path / 'audit.db'}"
    sink = AuditSink(Audit(dsn=url))
    outcomes = list(week(50))
    for one in outcomes:
        sink(one)
    sink.close()
    read = [entry.outcome for entry in AuditLog([url])]
    assert [to_record(o) for o in read] == [to_record(o) for o in outcomes]


def cli(*args: str) -> Any:
    return CliRunner().invoke(main, ["replay", *args])


def test_command(tmp_path: Path) -> None:
    """Old beside new in numbers that add up, and every request that differs in a file."""
    log = write_log(tmp_path / "audit.jsonl", 2000)
    (tmp_path / "new.yaml").write_text(
        json.dumps({"version": 1, "rules": [{"name": "n", **_chain()}]})
    )
    (tmp_path / "prices.yaml").write_text("second: {input: 1, output: 2}\n")
    common = [str(log), "--policy", str(tmp_path / "new.yaml")]
    done = cli(
        *common,
        "--prices",
        str(tmp_path / "prices.yaml"),
        "--json",
        "--differences",
        str(tmp_path / "d.jsonl"),
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    outcomes = list(week(2000))
    assert found["requests"] == 2000
    assert found["total"]["old"]["fell_back"] == sum(o.fell_back for o in outcomes)
    assert found["total"]["new"]["fell_back"] > found["total"]["old"]["fell_back"]
    for side in ("old", "new"):
        for figure in ("requests", "refused", "calls"):
            groups = sum(group[side][figure] for group in found["groups"])
            assert groups == found["total"][side][figure]
    assert found["total"]["new"]["cost"] > 0
    assert found["unpriced_models"] == ["local-llama"]
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert len(rows) == found["differing"] > 0
    table = cli(*common)
    assert table.exit_code == 0
    assert "Requests that differ" in table.output


def test_names_are_shown_without_control_characters(tmp_path: Path) -> None:
    """A log may come from elsewhere: what its names hold does not steer the terminal."""
    record = to_record(outcome(attempt("m", 0.9), id="r"))
    evil = "\x1b[2Jx"
    record |= {"id": evil, "requested_model": evil, "rule": evil}
    record["attempts"][0] |= {"model": evil, "target": evil}
    log, new = tmp_path / "audit.jsonl", tmp_path / "new.yaml"
    log.write_text(json.dumps(record) + "\n")
    new.write_text(json.dumps({"version": 1, "rules": [{"name": "n", **_chain()}]}))
    prices = tmp_path / "prices.yaml"
    prices.write_text("second: {input: 1, output: 2}\n")
    done = cli(str(log), "--policy", str(new), "--prices", str(prices))
    assert done.exit_code == 0, done.output
    assert "Requests that differ" in done.output
    assert "[2Jx" in done.output
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no records"),
        ("{}\n", "no audit record"),
        ("nonsense\n", ":1: not JSON"),
        ('{"schema": 99, "attempts": []}\n', "version 99"),
        ('{"schema": 1, "attempts": [{}]}\n', "damaged"),
    ],
)
def test_bad_logs(tmp_path: Path, text: str, told: str) -> None:
    """What is no audit log is told with its place, exit status 2, without a traceback."""
    (tmp_path / "audit.jsonl").write_text(text)
    (tmp_path / "new.yaml").write_text("version: 1\n")
    done = cli(str(tmp_path / "audit.jsonl"), "--policy", str(tmp_path / "new.yaml"))
    assert done.exit_code == 2
    assert told in done.output
    assert "Traceback" not in done.output


def test_missing_log(tmp_path: Path) -> None:
    """A file, a variable or a database that is not there is told."""
    (tmp_path / "new.yaml").write_text("version: 1\n")
    for source in ("gone.jsonl", "env:DEMUR_NOT_SET", f"sqlite:///{tmp_path}/gone.db"):
        done = cli(source, "--policy", str(tmp_path / "new.yaml"))
        assert done.exit_code == 2
        assert "Traceback" not in done.output

"""``demur policy``: check, schema and explain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demur.cli import main
from demur.cli.explanation import explain
from demur.policy import json_schema, parse_policy

POLICY = """\
targets:
  local: {model: llama, base_url: "http://127.0.0.1:8000/v1"}
rules:
  - name: off
    match: {model: raw-*}
    actions: []
  - name: support
    match: {model: primary, metadata: {team: support}}
    on: [refusal, partial]
    actions: [tag, retry]
    retry: {fallbacks: [second, local, {model: third, temperature: 0.2}], seconds: 9}
  - name: strict
    match: {api: responses}
    actions: [error]
  - name: tried-out
    mode: shadow
    match: {stream: true}
    actions: [retry]
    retry: {fallbacks: [second], exhausted: last}
  - name: careful
    match: {model: careful}
    actions: [retry]
    retry: {fallbacks: [second], exhausted: error}
    stream: {hold_back: {seconds: null}, at_cap: judge}
"""


STANDING = """\
rules:
  - name: r
    match: {model: primary}
    actions: [retry]
    retry: {fallbacks: [second], breaker: {least: 5}, sticky: {by: thread}}
  - {name: rest, match: {model: rest}}
budgets: [{calls: 3, seconds: 9.5}, {cost: 1.0, per: 3600.0, by: key}, {calls: 1, by: team}]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(POLICY)
    return "p.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments])


def lines(*arguments: str) -> dict[str, str]:
    """The explanation's lines by their first word; where it comes twice, the last."""
    result = run("explain", "p.yaml", *arguments)
    assert result.exit_code == 0, result.output
    return dict(line.split(maxsplit=1) for line in result.stdout.splitlines())


def test_check_says_ok(file: str) -> None:
    """A clean policy is one line on standard output and status 0."""
    result = run("check", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "p.yaml: ok, 5 rules\n"


def test_check_warns_and_strict_fails(file: str) -> None:
    """Warnings go to standard error; only ``--strict`` makes them fail."""
    Path(file).write_text("rules:\n  - name: a\n  - name: b\n")
    result = run("check", file)
    assert result.exit_code == 0
    assert result.stdout == "p.yaml: ok, 2 rules\n"
    assert result.stderr.startswith("warning: p.yaml:3: rules[1]: can never match")
    assert run("check", "--strict", file).exit_code == 1


def test_check_tells_all_errors_of_all_files(file: str) -> None:
    """One bad file does not hide the others; errors are status 2."""
    Path("bad.yaml").write_text("mode: x\nrules: []\n")
    result = run("check", "bad.yaml", file, "missing.yaml")
    assert result.exit_code == 2
    assert result.stdout.startswith("p.yaml: ok")
    assert "bad.yaml:1: mode: 'x' is not allowed" in result.stderr
    assert "bad.yaml:2: rules: must not be empty" in result.stderr
    assert "missing.yaml: there is no such file" in result.stderr
    assert "Traceback" not in result.output


def test_check_as_json(file: str) -> None:
    """``--json`` is an object a line: severity, file, line, key, message."""
    Path("bad.yaml").write_text("mode: x\n")
    Path("odd.yaml").write_text("targets: {t: {model: m}}\n")
    result = run("check", "--json", "bad.yaml", "odd.yaml", file)
    assert result.exit_code == 2
    error, warning = map(json.loads, result.stdout.splitlines())
    assert (error["severity"], error["file"], error["line"]) == ("error", "bad.yaml", 1)
    assert error["key"] == "mode"
    assert (warning["severity"], warning["key"]) == ("warning", "targets.t")


def test_schema_is_the_policys() -> None:
    """``schema`` prints the JSON Schema that is published."""
    result = run("schema")
    assert json.loads(result.stdout) == json_schema()


def test_explain_a_retry(file: str) -> None:
    """Rules passed over, fallbacks with place and patch, then what the caller gets."""
    told = lines("--model", "primary", "--metadata", "team=support")
    assert told["request"] == "primary, chat, not streamed, team=support"
    assert told["passed"] == "rules[0] off: the model is not raw-*"
    assert told["rule"] == "rules[1] support (tag, retry)"
    assert told["normal"] == "served as it is"
    assert told["refusal"] == told["partial"]
    assert told["refusal"] == (
        "falls back to second, then local (llama) at http://127.0.0.1:8000/v1, then third "
        "with temperature 0.2; if all of them refuse or fail, the first response is served, as "
        "without demur"
    )
    assert "held" not in told
    Path(file).write_text(POLICY.replace("seconds: 9", "attempts: 2"))
    told = lines("--model", "primary", "--metadata", "team=support")
    assert told["refusal"].startswith("falls back to second; if")


def test_explain_other_endings(file: str) -> None:
    """No rule, no actions, an error and an error at the end of a chain."""
    assert lines("--model", "x")["rule"] == "none matches: the call passes untouched"
    off = lines("--model", "raw-1")
    assert off["rule"] == "rules[0] off (no actions)"
    assert off["refusal"] == "served as it is"
    assert lines("--model", "x", "--api", "responses")["refusal"] == "the caller gets an error"
    careful = lines("--model", "careful")["refusal"]
    assert careful.startswith("falls back to second;")
    assert careful.endswith("the caller gets an error")


def test_explain_shadow_and_hold_back(file: str) -> None:
    """Shadow says what would be; the hold-back is told for streams that are enforced."""
    shadow = lines("--model", "x", "--stream")
    assert shadow["rule"].endswith("(retry); shadow: recorded, nothing changed")
    assert shadow["refusal"].startswith("served as it is; enforced: falls back to second")
    assert shadow["refusal"].endswith("the last response is served")
    assert "held" not in shadow
    Path(file).write_text(POLICY.replace("{stream: true}", "{model: y}"))
    held = lines("--model", "careful", "--stream")["held"]
    assert held == (
        "at most 160 characters (400 if suspect), "
        "then judged as if it were the whole if still unsure"
    )


def test_explain_as_json(file: str) -> None:
    """``--json`` holds request, rule, chain with patches, and the hold-back."""
    arguments = ["--model", "primary", "--metadata", "team=support", "--stream", "--json"]
    told = json.loads(run("explain", file, *arguments).stdout)
    assert told["request"]["metadata"] == {"team": "support"}
    assert (told["rule"], told["shadow"]) == ("support", False)
    assert told["passed_over"] == [{"rule": "off", "because": "the model is not raw-*"}]
    assert told["labels"]["normal"] == {"triggers": False, "fallbacks": [], "exhausted": None}
    refusal = told["labels"]["refusal"]
    assert [target["model"] for target in refusal["fallbacks"]] == ["second", "llama", "third"]
    assert refusal["fallbacks"][2]["patch"] == {"temperature": 0.2}
    assert refusal["exhausted"] == "first"
    assert told["hold_back"]["hold_back"]["chars"] == 160
    nothing = json.loads(run("explain", file, "--model", "x", "--json").stdout)
    assert (nothing["rule"], nothing["labels"]) == (None, {})


def test_markup_in_names_is_text(file: str) -> None:
    """Names that look like markup are printed as they are."""
    Path(file).write_text("rules: [{name: '[red]x[/red]', match: {model: '[ab]*'}}]")
    assert lines("--model", "a[b]")["rule"] == "rules[0] [red]x[/red] (tag, log)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "p.yaml"], "Missing option '--model'"),
        (["explain", "p.yaml", "--model", "m", "--metadata", "team"], "'team' is not KEY=VALUE"),
        (["explain", "p.yaml", "--model", "m", "--api", "chatty"], "'chatty' is not one of"),
        (["explain", "none.yaml", "--model", "m"], "none.yaml: there is no such file"),
        (["check"], "Missing argument"),
    ],
)
def test_mistakes_on_the_command_line(file: str, arguments: list[str], said: str) -> None:
    """A wrong call says what is wrong on standard error, with status 2."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_the_explanation_follows_the_policy() -> None:
    """The rule explained is the rule that would be applied, for every kind of request."""
    policy = parse_policy(POLICY)
    for model in ("raw-1", "primary", "careful", "x"):
        for stream in (False, True):
            for team in ({}, {"team": "support"}):
                told = explain(policy, model=model, api="chat", stream=stream, metadata=team)
                rule = policy.rule_for(model=model, api="chat", stream=stream, metadata=team)
                assert (told.plan and told.plan.rule) == rule
                passed = len(told.passed_over)
                assert passed == (len(policy.rules) if rule is None else policy.rules.index(rule))


def test_explain_what_lies_beyond_one_request(file: str) -> None:
    """Breaker, stickiness and budgets, for requests that could be retried; else not a word."""
    Path(file).write_text(STANDING)
    told = run("explain", file, "--model", "primary").stdout
    assert (
        "breaker  once 50% of 5 or more judged requests in 60 s are refused, requests start at "
        "second for 120 s; then one tries primary again\n" in told
    )
    assert "sticky   a refused conversation (thread) starts at the model" in told
    assert "budget   at most 3 added calls, 9.5 s of waiting in 60 s; beyond" in told
    assert "budget   at most a cost of 1 in 3600 s for each key; beyond" in told
    assert "budget   at most 1 added calls in 60 s for each team; beyond" in told
    as_object = json.loads(run("explain", file, "--model", "primary", "--json").stdout)
    assert as_object["breaker"]["least"] == 5
    assert as_object["sticky"]["by"] == "thread"
    assert [budget["by"] for budget in as_object["budgets"]] == ["all", "key", "team"]
    rest = json.loads(run("explain", file, "--model", "rest", "--json").stdout)
    assert not {"breaker", "sticky", "budgets"} & rest.keys()
    assert "budget" not in run("explain", file, "--model", "rest").stdout


def test_explain_rounds_no_number(tmp_path: Path) -> None:
    """A breaker's rate of 0.5 % is not told as 0 %, nor a budget of a million as 1e+06."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "rules: [{name: a, actions: [retry], retry: {fallbacks: [m], breaker: {rate: 0.005}}}]\n"
        "budgets: [{calls: 9, seconds: 1234567.5, cost: 1000000}]\nprices: {m: {input: 1}}\n"
    )
    told = CliRunner().invoke(main, ["policy", "explain", str(file), "--model", "x"]).stdout
    assert "once 0.5% of 20" in told
    assert "1234567.5 s of waiting, a cost of 1000000 in 60 s" in told

"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from demur.cli import main
from demur.policy import check_policy
from demur.testing import Reply, Upstream

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def run_examples(monkeypatch, script):
    """The Python blocks, in order, against a server that answers as ``script`` says."""
    with Upstream(script) as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-readme")
        names: dict[str, object] = {}
        for block in blocks("python"):
            exec(compile(block, "README.md", "exec"), names)
        names["client"].close()


def test_the_client_examples_run(monkeypatch, capsys):
    """The Python blocks, run in order against a server that refuses, print the fallback."""
    pytest.importorskip("openai")
    refusal, answer = "I'm sorry, but I can't help with that.", "Use `kill PID` in a shell."
    run_examples(monkeypatch, {"gpt-4.1-mini": Reply(refusal), "gpt-4.1": Reply(answer)})
    printed = capsys.readouterr().out
    assert printed.count(answer) == 2
    assert "sorry" not in printed
    assert "gpt-4.1-mini refused refusal" in printed
    assert "gpt-4.1 accepted normal" in printed
    assert "fell_back" in printed


def test_the_client_examples_run_where_the_fallback_fails(monkeypatch, capsys):
    """They also print what became of it where nothing could be judged."""
    pytest.importorskip("openai")
    script = {
        "gpt-4.1-mini": Reply("I'm sorry, but I can't help with that."),
        "gpt-4.1": Reply(status=400),
    }
    run_examples(monkeypatch, script)
    assert "gpt-4.1 failed None None" in capsys.readouterr().out


def test_the_policy_is_one(tmp_path):
    """The policy block loads without an error and without a warning."""
    (policy,) = [text for text in blocks("yaml") if text.startswith("version")]
    path = tmp_path / "policy.yaml"
    path.write_text(policy, encoding="utf-8")
    loaded, warnings = check_policy(path)
    assert [rule.name for rule in loaded.rules] == ["support-bot", "everything-else"]
    assert not warnings


def test_the_proxy_config_loads_the_guardrail(tmp_path):
    """The proxy block names the guardrail's class and settings that it takes."""
    pytest.importorskip("litellm")
    from demur.adapters.litellm import DemurGuardrail

    (block,) = [text for text in blocks("yaml") if text.startswith("guardrails")]
    (entry,) = yaml.safe_load(block)["guardrails"]
    params = entry["litellm_params"]
    assert params["guardrail"] == f"demur.adapters.litellm.{DemurGuardrail.__name__}"
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n", encoding="utf-8")
    guardrail = DemurGuardrail(
        guardrail_name=entry["guardrail_name"],
        event_hook=params["mode"],
        default_on=params["default_on"],
        demur={**params["demur"], "policy": str(path)},
    )
    assert guardrail.guardrail_name == "demur"


def test_the_commands_work(tmp_path, monkeypatch):
    """Each ``demur`` command shown exits with success on files as it expects them."""
    (policy,) = [text for text in blocks("yaml") if text.startswith("version")]
    (tmp_path / "policy.yaml").write_text(policy, encoding="utf-8")
    (tmp_path / "responses.jsonl").write_text('{"response": "I can\'t do that."}\n')
    monkeypatch.chdir(tmp_path)
    (shown,) = [text for text in blocks("console") if text.startswith("$")]
    for line in shown.splitlines():
        result = CliRunner().invoke(main, shlex.split(line.removeprefix("$ demur ")))
        assert result.exit_code == 0, (line, result.output)


def test_ci_runs_the_readmes_test_command():
    """CI takes its test command out of the README, so the two cannot differ."""
    command = README.partition("<!-- test command -->")[2].split("```")[1]
    assert command.startswith("console\npython3 -m venv .venv")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

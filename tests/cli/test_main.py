"""The command's group: light, lazy, and polite about mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from demur import cli
from demur.errors import MissingExtraError, PolicyError

HEAVY = ("openai", "litellm", "torch", "transformers", "onnxruntime")


def demur(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from demur.cli import main; main()", *arguments],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command ``policy`` that raises what is put into the list."""
    raised: list[BaseException] = []

    @click.command()
    def command() -> None:
        raise raised[0]

    monkeypatch.setattr("demur.cli.policy.policy", command)
    return raised


def test_version_is_the_installed_one() -> None:
    """``--version`` tells the version of the installed package."""
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.exit_code == 0
    assert version("demur") in result.output


def test_help_lists_commands_and_loads_none() -> None:
    """``demur --help`` imports no command and nothing heavy."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from demur.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print('LOADED', *(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True, timeout=60
    )
    text, _, loaded = done.stdout.partition("LOADED ")
    assert "Check and explain policy files." in text
    names = loaded.split()
    assert [name for name in names if name.startswith("demur.cli.")] == []
    assert [name for name in names if name.partition(".")[0] in HEAVY] == []


def test_every_command_that_is_there_loads_and_has_help() -> None:
    """Each listed command can be called for its help."""
    listed = cli.main.list_commands(click.Context(cli.main))
    assert "policy" in listed
    for name in listed:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert result.output.startswith(f"Usage: main {name}")


def test_a_missing_command_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose module is not installed is not listed, and the others work."""
    commands = {**cli._COMMANDS, "ghost": ("demur.cli.ghost:ghost", "Is not there.")}
    monkeypatch.setattr(cli, "_COMMANDS", commands)
    assert "ghost" not in CliRunner().invoke(cli.main, ["--help"]).output
    assert CliRunner().invoke(cli.main, ["policy", "--help"]).exit_code == 0
    for name in ("ghost", "nonsense"):
        result = CliRunner().invoke(cli.main, [name])
        assert result.exit_code == 2
        assert f"No such command '{name}'" in result.stderr


@pytest.mark.parametrize(
    "error",
    [PolicyError("p.yaml:3: mode: wrong"), MissingExtraError("torch", "transformers", "It")],
)
def test_errors_of_demur_are_told_without_a_traceback(
    failing: list[BaseException], error: Exception
) -> None:
    """A user's mistake is one message on standard error, and exit status 2."""
    failing.append(error)
    result = CliRunner().invoke(cli.main, ["policy"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"Error: {error}\n"


def test_an_interrupt_is_quiet(failing: list[BaseException]) -> None:
    """Ctrl-C ends with the shell's status for it and no traceback."""
    failing.append(KeyboardInterrupt())
    result = CliRunner().invoke(cli.main, ["policy"])
    assert result.exit_code == 130
    assert result.output.strip() == ""


def test_other_errors_are_not_hidden(failing: list[BaseException]) -> None:
    """A bug is no user's mistake: it keeps its traceback."""
    failing.append(ZeroDivisionError())
    assert isinstance(CliRunner().invoke(cli.main, ["policy"]).exception, ZeroDivisionError)


@pytest.mark.parametrize("arguments", [["policy", "schema"], ["--help"]])
def test_a_closed_pipe_is_quiet(arguments: list[str]) -> None:
    """``demur ... | head`` prints no traceback when the reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from demur.cli import main; main()", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1

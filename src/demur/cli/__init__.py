"""The command ``demur``: one file a command, loaded when it is called."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import DemurError

_COMMANDS = {
    "classify": ("demur.cli.classify:classify", "Judge a text, or every line of a JSONL file."),
    "demo": ("demur.cli.demo:demo", "See demur at work: no key, no network."),
    "eval": ("demur.cli.eval:evaluate", "Measure a detector on labelled responses."),
    "label": ("demur.cli.label:label", "Label responses of an audit log by hand."),
    "export": ("demur.cli.export:export_model", "Write a Hugging Face model for ONNX Runtime."),
    "policy": ("demur.cli.policy:policy", "Check and explain policy files."),
    "replay": ("demur.cli.replay:replay", "Try a policy on an audit log."),
    "report": ("demur.cli.report:report", "Draw an audit log as one page."),
    "serve": ("demur.cli.serve:serve", "Serve a detector with Ray: replicas, scaling, health."),
    "train": ("demur.cli.train:train", "Train a detector from a recipe."),
    "tune": ("demur.cli.tune:tune", "Find a threshold for a wanted precision."),
}


class _Failure(click.ClickException):
    """A user's mistake, told on standard error without a traceback."""

    exit_code = 2


class _Commands(click.Group):
    """Knows the names of its commands, and loads none before it is called."""

    def main(self, *args: Any, **extra: Any) -> Any:
        _open_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _Failure(_told(error)).show()
            sys.exit(_Failure.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _COMMANDS if self._module(name) is not None]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (module := self._module(name)) is None:
            return None
        attribute = _COMMANDS[name][0].partition(":")[2]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DemurError as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt:
            click.echo(err=True)
            return ctx.exit(130)

    def _module(self, name: str) -> str | None:
        """The command's module, where it is known and there."""
        module = _COMMANDS.get(name, ("",))[0].partition(":")[0]
        return module if module and importlib.util.find_spec(module) else None


def _open_streams() -> None:
    """Standard streams that are closed lead nowhere; else the next file would get their number.

    What the output's encoding cannot express becomes a question mark there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(mode))
    # Under C.UTF-8 it is surrogateescape, which only takes what came of a file name's bytes.
    failing = ("strict", "surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in failing:
        sys.stdout.reconfigure(errors="replace")


def _nowhere(mode: str) -> Any:
    return Path(os.devnull).open(mode, encoding="utf-8")


def _told(error: OSError) -> str:
    from .writing import FULL, reason

    try:
        sys.stdout.flush()
    except OSError:
        # What cannot be written is tried again at the interpreter's end otherwise.
        sys.stdout = _nowhere("w")
    name = "the output cannot be written" if error.filename is None else error.filename
    return f"{name}: {reason(error)}" if error.filename or error.errno in FULL else reason(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="demur")
def main() -> None:
    """Notice when a language model refuses, and do something about it."""

"""``demur policy``: check a policy file, print its schema, explain what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import click

from ..policy import InvalidPolicyError, Problem, check_policy, json_schema, load_policy
from ..vocabulary import Api, Target
from .explanation import Explanation, Foreseen, as_json, explain
from .standing import sentences

if TYPE_CHECKING:
    from rich.text import Text

_SERVED = {
    "first": "the first response is served, as without demur",
    "last": "the last response is served",
    "error": "the caller gets an error",
}


@click.group()
def policy() -> None:
    """Check and explain policy files."""


@policy.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Warnings fail too, with exit status 1.")
@click.option("--json", "as_lines", is_flag=True, help="A JSON object for every error or warning.")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], strict: bool, as_lines: bool) -> None:
    """Read policies and tell all that is wrong (exit status 2) or suspicious in them."""
    failed = warned = False
    for file in files:
        try:
            checked, warnings = check_policy(file)
        except InvalidPolicyError as error:
            failed = True
            _tell(error.problems, "error", str(error), as_lines)
            continue
        warned = warned or bool(warnings)
        for warning in warnings:
            _tell((warning,), "warning", str(warning), as_lines)
        if not as_lines:
            count = len(checked.rules)
            click.echo(f"{file}: ok, {count} {'rule' if count == 1 else 'rules'}")
    if failed or (strict and warned):
        ctx.exit(2 if failed else 1)


@policy.command()
def schema() -> None:
    """Print the policy's JSON Schema, for editors and validators."""
    click.echo(json.dumps(json_schema(), indent=2))


@policy.command("explain")
@click.argument("file")
@click.option("--model", required=True, help="The model the caller asks for.")
@click.option("--api", type=click.Choice(get_args(Api)), default="chat", show_default=True)
@click.option("--stream", is_flag=True, help="The request is streamed.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object.")
def explain_command(
    file: str, model: str, api: Api, stream: bool, metadata: tuple[str, ...], as_object: bool
) -> None:
    """Say which rule of a policy matches a request, and what would happen."""
    pairs = dict(_pair(text) for text in metadata)
    explanation = explain(load_policy(file), model=model, api=api, stream=stream, metadata=pairs)
    if as_object:
        click.echo(json.dumps(as_json(explanation), indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(explanation):
        console.print(line)


def _tell(problems: tuple[Problem, ...], severity: str, text: str, as_lines: bool) -> None:
    if not as_lines:
        click.echo(f"{severity}: {text}", err=True)
        return
    for problem in problems:
        record = {
            "severity": severity,
            "file": problem.source,
            "line": problem.line,
            "key": problem.key,
            "message": problem.message,
        }
        click.echo(json.dumps(record))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
    return key, value


def _lines(explanation: Explanation) -> Iterator[Text]:
    from rich.text import Text

    manner = "streamed" if explanation.stream else "not streamed"
    facts = [f"{key}={value}" for key, value in explanation.metadata.items()]
    request = ", ".join([explanation.model, explanation.api, manner, *facts])
    yield Text.assemble(("request  ", "dim"), request)
    for index, name, because in explanation.passed_over:
        yield Text.assemble(("passed   ", "dim"), f"rules[{index}] {name}: {because}")
    plan = explanation.plan
    if plan is None:
        yield Text.assemble(("rule     ", "dim"), "none matches: the call passes untouched")
        return
    place = f"rules[{len(explanation.passed_over)}] "
    actions = ", ".join(plan.rule.actions) or "no actions"
    shadow = "; shadow: recorded, nothing changed" if plan.shadow else ""
    yield Text.assemble(
        ("rule     ", "dim"), place, (plan.rule.name, "bold"), f" ({actions}){shadow}"
    )
    for foreseen in explanation.foreseen:
        yield Text.assemble(
            (f"{foreseen.label:9}", "dim"), _consequence(foreseen, shadow=plan.shadow)
        )
    for word, sentence in sentences(plan, explanation.budgets):
        yield Text.assemble((f"{word:9}", "dim"), sentence)
    if (settings := explanation.hold_back) is not None:
        held_back = settings.hold_back
        caps = [f"{held_back.chars} characters ({held_back.longest} if suspect)"]
        if held_back.seconds is not None:
            caps.append(f"{held_back.seconds:g} s")
        then = "released" if settings.at_cap == "release" else "judged as if it were the whole"
        held = f"at most {' or '.join(caps)}, then {then} if still unsure"
        yield Text.assemble(("held     ", "dim"), held)


def _consequence(foreseen: Foreseen, *, shadow: bool) -> str:
    if foreseen.exhausted is None:
        return "served as it is"
    last = _SERVED[foreseen.exhausted]
    then = last
    if foreseen.targets:
        chain = ", then ".join(_named(target) for target in foreseen.targets)
        then = f"falls back to {chain}; if all of them refuse or fail, {last}"
    return f"served as it is; enforced: {then}" if shadow else then


def _named(target: Target) -> str:
    name = target.name if target.name == target.model else f"{target.name} ({target.model})"
    place = f" at {target.base_url}" if target.base_url else ""
    changes = ", ".join(f"{key} {json.dumps(value)}" for key, value in target.patch.items())
    return f"{name}{place}{f' with {changes}' if changes else ''}"

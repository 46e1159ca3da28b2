"""``demur export``: a Hugging Face classifier as a folder for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError
from .jsonl import ABSENT, Lines
from .numbers import Float
from .writing import check_folder


@click.command("export")
@click.argument("model")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write.",
)
@click.option("--int8", is_flag=True, help="Also write int8 weights: smaller, faster.")
@click.option("--revision", help="Hub revision to pin.")
@click.option("--refusal-label", help="The label that means refusal, if its name leaves it open.")
@click.option(
    "--texts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON lines with 'response' that labels are compared on, instead of ten built-in texts.",
)
@click.option("--most", type=click.IntRange(1), default=2000, show_default=True, help="Of them.")
@click.option(
    "--least",
    type=Float(0, 1),
    default=0.99,
    show_default=True,
    help="Share of labels that must agree with torch, or nothing is written.",
)
def export_model(
    model: str,
    folder: Path,
    int8: bool,
    revision: str | None,
    refusal_label: str | None,
    texts: Path | None,
    most: int,
    least: float,
) -> None:
    """Write MODEL (a folder or hub id) for ONNX Runtime, and check its labels against torch's.

    Use it in a policy as: transformer: {model: DIR, backend: onnx}
    """
    from ..detection.exporting import export

    check_folder(folder.expanduser())
    samples = _texts(texts, most) if texts is not None else ()
    found = export(
        model,
        folder,
        revision=revision,
        int8=int8,
        refusal_label=refusal_label,
        texts=samples,
        least=least,
    )
    for agreement in found:
        click.echo(
            f"{folder / agreement.file}: labels agree with torch on {agreement.agreeing} of "
            f"{agreement.texts} texts, scores differ by {agreement.largest_difference:.4f} at most"
        )


def _texts(path: Path, most: int) -> list[str]:
    if not path.exists():
        raise InputError(f"{path}: no such file; give JSON lines with 'response'")
    found: list[str] = []
    with Lines(str(path)) as lines:
        for number, row in lines:
            text = row.get("response", ABSENT)
            if text is not None and not isinstance(text, str):
                raise InputError(f"{path}:{number}: no text under 'response'; every line needs one")
            if text and text.strip():
                found.append(text)
            if len(found) == most:
                break
    if not found:
        raise InputError(f"{path}: holds no text under 'response'; give a file with some")
    return found

"""``demur serve``: a detector as a Ray Serve application."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from ..errors import InputError
from .numbers import Float


@click.command("serve")
@click.option("--policy", type=click.Path(path_type=Path), help="Take its detector settings.")
@click.option("--model", help="A Hugging Face classifier: folder or hub id. It reads every text.")
@click.option("--backend", type=click.Choice(["torch", "onnx"]), help="Of the model.")
@click.option(
    "--threshold", type=Float(0, 1), help="Instead of the detector's own; clients see it as 0.5."
)
@click.option("--name", default="demur", show_default=True, help="The model's, for KServe clients.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--replicas",
    default="1",
    show_default=True,
    metavar="N|MIN:MAX",
    help="Processes that hold the model; two numbers let Ray Serve scale between them.",
)
@click.option(
    "--in-flight", default=32, show_default=True, type=click.IntRange(1),
    help="Requests in flight that each replica should have; beyond, more are started.",
)  # fmt: skip
@click.option("--cpus", default=1.0, show_default=True, help="Processor cores of each replica.")
@click.option("--gpus", default=0.0, show_default=True, help="CUDA devices of each replica.")
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Of a running cluster; default: one is started here.",
)
def serve(host: str, port: int, replicas: str, address: str | None, **options: Any) -> None:
    """Serve a detector over HTTP until it is interrupted.

    A policy's remote stage on any machine asks it: remote: {protocol: tei, url: http://HOST:PORT}.
    It answers POST /predict (Text Embeddings Inference), POST /v2/models/NAME/infer (KServe v2) and
    GET /health. Scores are scaled so that the detector's threshold is 0.5, which clients take where
    they are told no other. Replicas that die or fall ill are replaced. Its numbers stand on the
    metrics page of each Ray node (Prometheus).
    """
    from ..serving.running import running

    least, most = _replicas(replicas)
    with running(_settings(options, least, most), host=host, port=port, address=address) as url:
        click.echo(f"serving on {url}", err=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        threading.Event().wait()


def _replicas(given: str) -> tuple[int, int | None]:
    least, colon, most = given.partition(":")
    try:
        found = int(least), int(most) if colon else None
    except ValueError as error:
        raise InputError(
            f"--replicas {given[:40]!r}: neither a number nor MIN:MAX, as 2:8"
        ) from error
    if found[1] is not None and found[1] < found[0]:
        raise InputError(f"--replicas {given[:40]}: give the smaller number first, as 2:8")
    return found


def _settings(options: dict[str, Any], least: int, most: int | None) -> Any:
    from ..serving import ServeSettings

    try:
        return ServeSettings(replicas=least, most_replicas=most, **options)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InputError(f"--{name or 'replicas'}: {first['msg']}") from error

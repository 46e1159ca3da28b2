"""Ray Serve with one application on it, for as long as a context lasts."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ..errors import DetectorError, InputError
from .application import application, imported
from .settings import ServeSettings

CONNECTING: Final = 5.0
"""Seconds that it may take to reach a server of the cluster."""


@contextmanager
def running(
    settings: ServeSettings, *, host: str, port: int, address: str | None = None
) -> Iterator[str]:
    """The address at which the application answers; it is ready when the context begins.

    Without an ``address`` a Ray of its own is started on this machine, and ended. Raises
    ``InputError`` where the port is taken, the cluster is not there or serves something else, or
    this machine has no room for the replicas, ``DetectorError`` where the detector cannot be built.
    """
    serve = imported()
    if address is None:
        _check_free(host, port)
    app = application(settings)
    ray = connected(address)
    ours = False
    try:
        if address is None:
            _check_room(settings, ray.cluster_resources())
        elif serve.status().proxies:
            _check_answers(host, port)
        serve.start(http_options={"host": host, "port": port})
        ours = True
        try:
            serve.run(app, name=settings.name)
        except serve.exceptions.RayServeException as error:
            ours = False
            raise InputError(f"--ray {address}: {error} End that one first.") from error
        except RuntimeError as error:
            reason = _reason(serve, settings.name, error)
            raise DetectorError(f"the replicas did not start: {reason}") from error
        yield f"http://{host}:{port}"
    finally:
        if address is None:
            serve.shutdown()
        elif ours:
            serve.delete(settings.name)
        ray.shutdown()


def connected(address: str | None) -> Any:
    """``ray``, connected to the cluster at ``address``, or to one of its own."""
    import ray

    try:
        ray.init(address=address or "local", logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"--ray {address}: no cluster answers there; start one with: ray start --head"
        ) from error
    return ray


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror} on {host}; name another") from error


def _check_answers(host: str, port: int) -> None:
    """Where Serve runs already it keeps its own port, whatever it is asked for."""
    try:
        with socket.create_connection((host, port), timeout=CONNECTING):
            pass
    except OSError as error:
        raise InputError(
            f"--port {port}: the cluster's Serve runs already, and not there ({error.strerror}); "
            "name its own host and port"
        ) from error


def _check_room(settings: ServeSettings, there: Mapping[str, float]) -> None:
    """Serve would wait for ever, and say so in a log of its own alone; a cluster may grow."""
    wanted = (("CPU", "--cpus", settings.cpus), ("GPU", "--gpus", settings.gpus))
    for kind, option, each in wanted:
        has, needs = there.get(kind, 0.0), each * settings.replicas
        if needs > has:
            raise InputError(
                f"--replicas {settings.replicas} with {option} {each:g} need {needs:g} {kind}s, "
                f"and Ray has {has:g} on this machine; give fewer"
            )


def _reason(serve: Any, name: str, error: Exception) -> str:
    """The last line of what a replica raised, as Serve tells it of the deployment."""
    told = [str(error)]
    if (app := serve.status().applications.get(name)) is not None:
        told += [deployment.message for deployment in app.deployments.values()]
    lines = [line.strip() for text in told for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

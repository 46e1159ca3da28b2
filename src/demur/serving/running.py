"""Ray Serve with one application on it, for as long as a context lasts."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DetectorError, InputError
from .application import application, imported
from .settings import ServeSettings


@contextmanager
def running(
    settings: ServeSettings, *, host: str, port: int, address: str | None = None
) -> Iterator[str]:
    """The address at which the application answers; it is ready when the context begins.

    Without an ``address`` a Ray of its own is started on this machine, and ended. Raises
    ``InputError`` where the port is taken or the cluster is not there, ``DetectorError`` where the
    detector cannot be built.
    """
    serve = imported()
    if address is None:
        _check_free(host, port)
    app = application(settings)
    connected(address)
    import ray

    try:
        serve.start(http_options={"host": host, "port": port})
        try:
            serve.run(app, name=settings.name)
        except RuntimeError as error:
            reason = _reason(error)
            raise DetectorError(f"the replicas did not start: {reason}") from error
        yield f"http://{host}:{port}"
    finally:
        if address is None:
            serve.shutdown()
        else:
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


def _reason(error: Exception) -> str:
    """The last line of what Serve says of a deployment that failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

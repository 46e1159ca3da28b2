"""The last thing a proxy does: write the records that wait.

Its server ends the process by the signal it was sent, so nothing that Python runs at exit is run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import anyio.to_thread

from ...sinks import flush

_MARK = "_demur_flushes"
_log = logging.getLogger("demur")

Event = Callable[..., Coroutine[Any, Any, Any]]


def flush_at_shutdown() -> None:
    """Have records written at the end of the proxy's lifespan, its own work done."""
    # LiteLLM asks no hook then, and its lifespan has begun by the time it loads guardrails.
    server: Any = sys.modules.get("litellm.proxy.proxy_server")
    plain: Event | None = getattr(server, "proxy_shutdown_event", None)
    if plain is not None and not hasattr(plain, _MARK):
        server.proxy_shutdown_event = _flushing(plain)


def _flushing(plain: Event) -> Event:
    @wraps(plain)
    async def shut_down(*args: Any, **kwargs: Any) -> Any:
        try:
            return await plain(*args, **kwargs)
        finally:
            if not await anyio.to_thread.run_sync(flush):
                _log.error("demur: the proxy ends, and records still wait to be written")

    setattr(shut_down, _MARK, True)
    return shut_down

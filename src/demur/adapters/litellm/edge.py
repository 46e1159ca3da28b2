"""The fail-open edge: what goes wrong in demur never costs a caller the response."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, TypeVar

from typing_extensions import ParamSpec

from .chain import AttemptRefusedError
from .once import stands_aside

P = ParamSpec("P")
T = TypeVar("T")
G = TypeVar("G")

_log = logging.getLogger("demur")


def fail_open(
    hook: Callable[Concatenate[G, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[G, P], Coroutine[Any, Any, T | None]]:
    """A guardrail's hook whose own errors are logged, by type, and go no further."""

    @wraps(hook)
    async def guarded(self: G, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if stands_aside(self):
            return None
        try:
            return await hook(self, *args, **kwargs)
        except AttemptRefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - the fail-open edge
            _log.warning(
                "demur: %s failed with %s; the request goes on", hook.__name__, type(error).__name__
            )
            return None

    return guarded

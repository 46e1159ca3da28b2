"""Cells in a Redis that replicas share: one round trip, whatever is asked at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ..errors import MissingExtraError, PolicyError
from ..flow.ledger import SLOTS, Add, Cell, Look, Operation, Put, Reserve, Swap, Told
from ..policy.standing_settings import Shared
from . import Store
from .bounded import Bounded


class RedisStore:
    """Runs a script on ``client``, a blocking ``redis.Redis`` or one with its ``register_script``.

    Times are the server's own, so replicas need no common clock; ``clock`` is for tests.
    All keys carry one hash tag, so in a cluster they are in one place.
    """

    def __init__(
        self, client: Any, prefix: str = "demur", *, clock: Callable[[], float] | None = None
    ) -> None:
        self._script = client.register_script(_source())
        self._prefix = f"{{{prefix}}}:"
        self._clock = clock

    def ask(self, operations: Sequence[Operation]) -> Told:
        asked = [self._asked(operation) for operation in operations]
        keys = dict.fromkeys(key for one in asked for key in _keys(one))
        now = "" if self._clock is None else repr(self._clock())
        time, facts = self._script(keys=list(keys), args=[now, json.dumps(asked), SLOTS])
        found = zip(operations, json.loads(facts), strict=True)
        return Told(tuple(_fact(operation, fact) for operation, fact in found), float(time))

    def _asked(self, operation: Operation) -> dict[str, Any]:
        """An operation as the script reads it. It knows no null: what is ``None`` is left out."""
        match operation:
            case Look(key, window):
                said = {"what": "look", "key": key, "window": window}
            case Swap(key, old, new, seconds, clear):
                said = {"what": "swap", "key": key, "old": old, "new": new}
                said |= {"seconds": seconds, "clear": clear}
            case Put(key, mark, seconds):
                said = {"what": "put", "key": key, "mark": mark, "seconds": seconds}
            case Add(key, window, amounts, mark, guarded):
                said = {"what": "add", "key": key, "window": window, "amounts": dict(amounts)}
                said |= {"mark": mark, "guarded": guarded}
            case Reserve(name, allowances):
                cells = [
                    {"key": self._prefix + a.key, "window": a.window, "limits": dict(a.limits)}
                    for a in allowances
                ]
                return {"what": "reserve", "name": name, "allowances": cells}
        said["key"] = self._prefix + key
        return {name: value for name, value in said.items() if value is not None}


def redis_store(variable: str, shared: Shared) -> Store:
    """The store whose URL ``variable`` holds. Connects when it is first asked."""
    url = os.environ.get(variable, "")
    if not url:
        raise PolicyError(
            f"shared.redis_env: the environment variable {variable!r} is not set; "
            "set it to the URL of a Redis, like redis://127.0.0.1:6379/0"
        )
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingExtraError("redis", "redis", "shared: {redis_env: …}") from error
    try:
        client = Redis.from_url(
            url,
            socket_timeout=shared.seconds,
            socket_connect_timeout=shared.seconds,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise PolicyError(
            f"shared.redis_env: the URL in {variable!r} cannot be read; "
            "write it like redis://127.0.0.1:6379/0"
        ) from None  # its message quotes the URL, which may hold a password
    return Bounded(RedisStore(client, shared.prefix), shared.seconds)


@cache
def _source() -> str:
    return files(__package__).joinpath("cells.lua").read_text()


def _keys(asked: dict[str, Any]) -> list[str]:
    return [cell["key"] for cell in asked.get("allowances", (asked,))]


def _fact(operation: Operation, fact: Any) -> Any:
    match operation:
        case Look():
            mark, amounts = fact
            return Cell(mark or None, amounts or {})
        case Swap() | Reserve():
            return bool(fact)
    return None

"""What frameworks of agents have in common: a tool, and the cases of an agent asked once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .comparing import Case
from .schemas import City


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def asked(
    said: Callable[[Any], Awaitable[Any]], agent: Callable[..., Any], responses: Any, tool: Any
) -> list[Case]:
    """Agents without more, with a tool and with an output type, each on chat and on Responses.

    ``agent`` makes one of a client, a model's class if not chat's, and options; ``said`` asks it.
    """
    options = {"": {}, "_tools": {"tools": [tool]}, "_output": {"output_type": City}}

    def case(api: str, kind: tuple[Any, ...], what: str) -> Case:
        async def asking(client: Any) -> Any:
            return await said(agent(client, *kind, **options[what]))

        asking.__name__ = api + what
        return asking

    kinds = (("chat", ()), ("responses", (responses,)))
    return [case(api, kind, what) for what in options for api, kind in kinds]

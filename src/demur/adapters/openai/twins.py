"""Clients like another that share its connections, without asking their class to make them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import openai

from ...errors import UnsupportedClientError


def plain_class(cls: type) -> Any:
    """The class whose ``request`` demur does not override."""
    return getattr(cls, "_demur_plain", cls)


def twin(client: Any, cls: type) -> Any:
    """A client of the class ``cls`` with all that ``client`` has, but for its resources.

    Those hold on to the client they were made by, and would bypass this one. The class's own
    ``__init__`` and ``copy`` are not called: a subclass may have given them any signature.
    """
    made: Any = object.__new__(cls)
    kept = {name: value for name, value in vars(client).items() if not _is_cached(cls, name)}
    vars(made).update(kept)
    return made


def unpinned(client: Any) -> Any:
    """The client, free to call another model: an Azure client may be bound to one deployment."""
    base, pinned, _ = str(client.base_url).partition("/deployments/")
    if not pinned or not isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI):
        return client
    free = twin(client, plain_class(type(client)))
    free.base_url, free._azure_deployment = base, None
    return free


def check_resources(client: Any, made: Any) -> None:
    """Raises ``UnsupportedClientError`` where something has replaced a resource of ``client``, or
    one of its methods.

    What another library has put there calls that client, past its twin ``made``.
    """
    for name, value in vars(client).items():
        if _is_cached(type(made), name):
            place = _replaced(value, getattr(made, name), name)
        else:
            place = name if _leads_to_request(name) else None
        if place is not None:
            raise UnsupportedClientError(
                f"demur.wrap was given a client whose {place} something else has replaced, and "
                f"which would be lost; wrap the client with demur first, and the result with that"
            )


def _replaced(given: Any, own: Any, place: str) -> str | None:
    """Where something stands in place of what the class itself makes, which is like ``own``."""
    if not _alike(given, own):
        return f"{place} ({type(given).__module__}.{type(given).__qualname__})"
    for name, value in getattr(given, "__dict__", {}).items():
        if _is_cached(type(given), name):
            found = _replaced(value, getattr(own, name), f"{place}.{name}")
        elif name not in vars(own) or not _alike(value, vars(own)[name]):
            found = f"{place}.{name}"
        else:
            found = None
        if found is not None:
            return found
    return None


def _alike(given: Any, own: Any) -> bool:
    return plain_class(type(given)) is plain_class(type(own))


def _leads_to_request(name: str) -> bool:
    """Whether it is a method of every client; the private ones are called by ``request``."""
    return not name.startswith("_") and callable(getattr(openai.OpenAI, name, None))


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)

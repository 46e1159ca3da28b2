"""Where the state is kept that requests share: in the process, or in a Redis for all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..flow.ledger import Operation, Told
from ..policy.schema import Policy


class Store(Protocol):
    """Keeps cells; see ``flow.ledger``. What it raises costs no request anything but its advice.

    The operations of one call happen at once. Safe to call from many threads.
    """

    def ask(self, operations: Sequence[Operation]) -> Told: ...

    async def aask(self, operations: Sequence[Operation]) -> Told: ...


class NoStore:
    """For requests that nobody gave a store: nothing is known, nothing is kept."""

    def ask(self, operations: Sequence[Operation]) -> Told:
        raise LookupError("no store")

    async def aask(self, operations: Sequence[Operation]) -> Told:
        return self.ask(operations)


def store_for(policy: Policy) -> Store | None:
    """The store a policy asks for; ``None`` where it asks for nothing that needs one.

    Raises ``PolicyError`` or ``MissingExtraError`` for one that could never work.
    """
    from .memory import MemoryStore
    from .redis import redis_store

    if not remembers(policy):
        return None
    if policy.shared is None or policy.shared.redis_env is None:
        return MemoryStore()
    return redis_store(policy.shared.redis_env, policy.shared)


def remembers(policy: Policy) -> bool:
    """Whether any request under ``policy`` has to do with others."""
    return any(map(policy.remembers, policy.rules))

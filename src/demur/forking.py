"""What a forked child inherits: one thread, and all of its parent's memory.

A lock may be held for ever, by a thread that was left behind; so are those that would have done
what waits. Sockets are the parent's as well.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Forkable(Protocol):
    """What holds locks, threads or sockets."""

    def renew(self) -> None:
        """Begin anew in a child: with locks of its own, no thread, and nothing under way."""
        ...


_FORKABLE: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def renewed_in_children(made: Forkable) -> None:
    """Have ``made`` renewed in every child, for as long as it lives."""
    _FORKABLE.add(made)


def _after_fork() -> None:
    for made in tuple(_FORKABLE):
        made.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

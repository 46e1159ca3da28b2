"""A policy made ready to use, and made ready anew when its file changes."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ...detection import Detector
from ...detection.building import build_detector
from ...detection.guarded import own_detector
from ...forking import renewed_in_children
from ...policy import Policy, load_policy
from ...sinks import Sink, Sinks, note_reload, sinks_for
from ...stores import Store
from .state import store_of

LOOK_SECONDS: Final = 1.0
"""How often a policy file is looked at."""
MOST_CHANGES: Final = 10
"""How many looks in a row may find a change, before a file is taken as it is."""
MOST_LOOKS_APART: Final = 60
"""How rarely a version that could not be used is tried again, in looks."""

_log = logging.getLogger("demur")


@dataclass(frozen=True, slots=True)
class Setup:
    """A policy with the detector, the sinks and the store it describes."""

    policy: Policy
    detector: Detector
    sinks: Sinks
    store: Store | None = None

    @classmethod
    def of(
        cls,
        policy: Policy,
        own: Detector | None,
        before: Setup | None = None,
        sinks: Sequence[Sink] = (),
    ) -> Setup:
        """``own`` replaces the policy's detector, held to the policy's deadline; ``sinks`` add to
        the policy's.

        What the policy ``before`` described alike is kept: models stay loaded, files open. Raises
        a ``DemurError`` where the policy asks for what there is not.
        """
        known = before.policy if before is not None else None
        return cls(
            policy,
            before.detector
            if before is not None and known is not None and known.detector == policy.detector
            else _detector(policy, own),
            before.sinks
            if before is not None
            and known is not None
            and (known.audit, known.metrics) == (policy.audit, policy.metrics)
            else sinks_for(policy, sinks),
            store_of(policy, None if before is None else (before.policy, before.store)),
        )


def _detector(policy: Policy, own: Detector | None) -> Detector:
    settings = policy.detector
    return build_detector(settings) if own is None else own_detector(own, settings.seconds)


class PolicyFile:
    """The setup a policy file describes, as of its last version that could be used.

    A thread looks at the file every ``LOOK_SECONDS``, from the first time ``current`` is asked
    for in a process, as long as this object is in use. A version that two looks in a row have found
    is taken over; of a file that never stays the same, one now and then. One that cannot be used
    changes nothing: it is logged, and counted where the policy has metrics. It is tried again, ever
    more rarely, as what it lacks may come later. ``changed`` is called, on that thread, with each
    new setup before it is used.
    """

    def __init__(
        self,
        path: Path,
        own: Detector | None,
        changed: Callable[[Setup], None],
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._path = path.absolute()
        self._own = own
        self._changed = changed
        self._sinks = sinks
        self._stamp = self._seen = _stamp(self._path)
        self._complaint: str | None = None
        self._apart = self._skip = self._changes = 0
        self._setup = Setup.of(load_policy(path), own, sinks=sinks)
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``."""
        self._watched = False

    @property
    def current(self) -> Setup:
        if not self._watched:
            self._watched = True
            watch = threading.Thread(
                target=_watch, args=(weakref.ref(self),), name="demur-policy", daemon=True
            )
            try:
                watch.start()
            except RuntimeError:
                self._watched = False
        return self._setup

    def look(self) -> None:
        """Take over a new version of the file, if there is one that stays and can be used."""
        stamp = _stamp(self._path)
        if stamp != self._seen:
            # It may be in the middle of being written, and half of a policy may be one, too.
            self._seen = stamp
            self._changes += 1
            if self._changes < MOST_CHANGES:
                return
        self._changes = 0
        if stamp != self._stamp:
            self._stamp, self._complaint, self._apart = stamp, None, 1
        elif self._complaint is None:
            return
        elif self._skip:
            self._skip -= 1
            return
        before = self._setup
        try:
            policy = load_policy(self._path)
            if _stamp(self._path) != stamp:
                return
            setup = Setup.of(policy, self._own, before, self._sinks)
            self._changed(setup)
        except Exception as error:  # noqa: BLE001 - the policy before goes on, whatever it was
            self._skip, self._apart = self._apart - 1, min(2 * self._apart, MOST_LOOKS_APART)
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("the new policy is not used, the one before is kept: %s", error)
                note_reload(before.policy, "failed")
            return
        self._setup, self._complaint = setup, None
        _log.info("policy %s: version %s is in use", self._path, setup.policy.fingerprint)
        note_reload(setup.policy, "done")


class Fixed:
    """The setup of a policy that was given in code, and cannot change."""

    def __init__(self, setup: Setup) -> None:
        self.current = setup


def setups_of(
    source: Policy | Path,
    own: Detector | None,
    changed: Callable[[Setup], None],
    sinks: Sequence[Sink] = (),
) -> Fixed | PolicyFile:
    """The setup of ``source``, whose file is watched if it has one.

    ``changed`` is told of the first one too.
    """
    found: Fixed | PolicyFile
    if isinstance(source, Path):
        found = PolicyFile(source, own, changed, sinks)
    else:
        found = Fixed(Setup.of(source, own, sinks=sinks))
    changed(found.current)
    return found


def _watch(watched: weakref.ref[PolicyFile]) -> None:
    while (file := watched()) is not None:
        file.look()
        del file
        time.sleep(LOOK_SECONDS)


def _stamp(path: Path) -> bytes | None:
    """What tells a version from others: what it says, however often that is written."""
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None

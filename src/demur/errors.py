"""Everything demur raises on purpose, in one tree under ``DemurError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .vocabulary import Outcome


class DemurError(Exception):
    """Base of every error demur raises on purpose."""


class PolicyError(DemurError):
    """A policy that cannot be used. The message names file, line, key, value and remedy."""


class MissingExtraError(DemurError, ImportError):
    """An optional dependency is not installed. The message says which ``pip install`` brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"run: pip install 'demur[{extra}]'"
        )
        self.package = package
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra, self.purpose)


class UnsupportedClientError(DemurError, TypeError):
    """``demur.wrap`` was given no OpenAI client, or one that another library has changed."""


class DetectorError(DemurError):
    """A detector that cannot answer: it raised, took too long, or answered out of shape."""


class ModelError(DetectorError):
    """A detection model that cannot be loaded, or fails its self-test. Says which and why."""


class UnreadableError(DemurError):
    """A fallback's answer that cannot be read: it failed, and the caller keeps what was refused.

    Never raised to a caller; its name stands in the attempt's record.
    """


class InputError(DemurError):
    """A command was given input it cannot read. The message names file, line and remedy."""


class RefusedError(DemurError):
    """Raised to the caller only where the policy asks for it (``error``, ``exhausted: error``).

    ``outcome`` holds every attempt; the message names models and labels, never text.
    """

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.outcome)

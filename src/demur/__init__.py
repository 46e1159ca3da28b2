"""demur notices when a model demurs, and does something about it.

import demur
client = demur.wrap(OpenAI(), fallbacks=["other-model"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from .attachment import outcome_of
from .errors import (
    DemurError,
    DetectorError,
    InputError,
    MissingExtraError,
    ModelError,
    PolicyError,
    RefusedError,
    UnsupportedClientError,
)
from .vocabulary import Attempt, Ending, Evidence, Kind, Label, Outcome, Signal, Usage, Verdict

if TYPE_CHECKING:
    from .detection import Detector
    from .policy import Policy
    from .sinks import Sink
else:
    _LATE = {"Detector": "detection", "Policy": "policy"}

    def __getattr__(name):
        """What loads more than a name is worth, where it is asked for."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)

    def __dir__():
        return sorted({*globals(), *_LATE})


ClientT = TypeVar("ClientT")

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "DemurError",
    "Detector",
    "DetectorError",
    "Ending",
    "Evidence",
    "InputError",
    "Kind",
    "Label",
    "MissingExtraError",
    "ModelError",
    "Outcome",
    "Policy",
    "PolicyError",
    "RefusedError",
    "Signal",
    "UnsupportedClientError",
    "Usage",
    "Verdict",
    "outcome_of",
    "wrap",
]


def wrap(
    client: ClientT,
    *,
    policy: Policy | str | PathLike[str] | Mapping[str, Any] | None = None,
    fallbacks: Sequence[str | Mapping[str, Any]] | None = None,
    detector: Detector | None = None,
    targets: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
) -> ClientT:
    """A client of the same class that notices refusals; the one given is left as it is.

    ``policy`` is a ``Policy``, a path to a YAML file, or the same as a mapping. ``fallbacks`` is
    the short form of a policy that retries on every refusal: models, or patches of the request
    such as ``{"model": "third", "temperature": 0.2}``. With neither, responses are tagged and
    logged and nothing else. ``detector`` takes the place of the policy's. ``targets`` maps names
    used as fallbacks to other clients, blocking or asynchronous as ``client`` is. ``sinks`` are
    called with each ``Outcome`` that a rule logs, after the policy's own, on the request's thread;
    they are yours to close.

    Raises ``PolicyError`` for a policy or target that cannot be used, ``UnsupportedClientError``
    for a ``client`` that is no OpenAI client or that another library has changed, ``ModelError``
    for a model that does not load, ``MissingExtraError`` where a package that is needed is not
    installed.
    """
    try:
        from .adapters.openai import wrap as wrap_openai
    except ModuleNotFoundError as missing:
        if missing.name != "openai":
            raise
        raise MissingExtraError("openai", "openai", "demur.wrap") from None
    return wrap_openai(
        client,
        policy=policy,
        fallbacks=fallbacks,
        detector=detector,
        targets=targets,
        sinks=sinks,
    )

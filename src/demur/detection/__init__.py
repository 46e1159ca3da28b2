"""Evidence in, verdict out.

Every detector is a ``Detector``: signals, the embedded model, a transformer, a remote service, and
the cascade that joins them. A detector is asked about one choice at a time and never sees a prompt.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..vocabulary import Evidence, Verdict


@runtime_checkable
class Detector(Protocol):
    """What can judge a response.

    ``name`` is the verdict's ``stage``. ``blocking`` says that one call may take longer than about
    a millisecond, or may hang: such a detector is kept off event loops and under a deadline.

    A detector that does not block because it waits asynchronously has one more method,
    ``async def aclassify(self, evidence, *, final=True)``: on an event loop it is awaited in place
    of ``classify``, under the same deadline.
    """

    @property
    def name(self) -> str: ...

    @property
    def blocking(self) -> bool: ...

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """Judge one choice.

        With ``final=False`` the evidence is the beginning of a stream and the answer must be
        prefix-safe: ``uncertain`` for as long as the whole could still turn out either way. With
        ``final=True`` the label is never ``uncertain``. Raises ``DetectorError`` where no answer
        can be given.
        """
        ...


__all__ = ["Detector"]

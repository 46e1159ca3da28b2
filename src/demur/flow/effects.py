"""What a flow may ask for, and what it is told.

A flow yields one effect at a time and is sent one answer. ``seconds`` in an answer is how long the
driver took over it: flows know no clock, so all their time comes from there.

| effect        | answer                                  |
| ------------- | --------------------------------------- |
| `FindUsable`  | `Usable`                                |
| `CallModel`   | `Called` or `Failed`                    |
| `OpenStream`  | `Opened` or `Failed`                    |
| `NextChunk`   | `Arrived`, `Ended`, `Waited`, `Failed`  |
| `Classify`    | `Judged` or `Failed`                    |
| `Release`     | nothing, once the consumer wants more   |
| `CloseStream` | nothing                                 |
| `Emit`        | nothing                                 |
| `Consult`     | `Told` or `Failed`                      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..vocabulary import Chunk, Completion, Evidence, Outcome, Target, Verdict
from .ledger import Operation, Told


@dataclass(frozen=True, slots=True)
class FindUsable:
    """Which of these targets may be called for this caller? The order is kept."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call ``target`` for a whole response. ``attempt`` 0 is the caller's own request, untouched.

    ``timeout`` in seconds bounds a fallback; ``None`` leaves the caller's own setting alone.
    """

    target: Target
    attempt: int
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Like ``CallModel``, for a stream. The answer's ``stream`` is a handle for drivers only."""

    target: Target
    attempt: int
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class NextChunk:
    """Read one chunk, waiting at most ``timeout`` seconds. A chunk not waited for is not lost."""

    stream: Any
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Classify:
    """Judge one choice; ``final=False`` says that it is the beginning of a stream."""

    evidence: Evidence
    final: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """Hand these chunks of ``stream`` to the consumer.

    The first ``Release`` says which stream is served; it may come before any chunk has arrived.
    """

    stream: Any
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the stream; the upstream connection is cut if it has not ended."""

    stream: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Note the outcome so far; once ``record.finished`` it goes to the sinks."""

    record: Outcome


@dataclass(frozen=True, slots=True)
class Consult:
    """Ask the state that requests share, all at once; see ``ledger``. Asked for by few policies."""

    operations: tuple[Operation, ...]


Effect = (
    FindUsable
    | CallModel
    | OpenStream
    | NextChunk
    | Classify
    | Release
    | CloseStream
    | Emit
    | Consult
)


@dataclass(frozen=True, slots=True)
class Usable:
    targets: tuple[Target, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Called:
    completion: Completion
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Opened:
    stream: Any
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrived:
    chunk: Chunk
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing arrived in time. The read goes on; the next ``NextChunk`` gets what it brings."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    error: Exception
    seconds: float = 0.0


Answer = Usable | Called | Opened | Arrived | Ended | Waited | Judged | Told | Failed | None


class ConsumerLeft(BaseException):
    """Thrown into a stream flow when its consumer stops before the end."""

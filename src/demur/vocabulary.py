"""The records every part of demur speaks in: frozen, plain, free of any SDK.

Nothing here decides anything. Adapters translate native responses into these records, detectors
answer with them, flows pass them on and sinks write them down. ``native`` fields carry a caller's
own object through a flow untouched; nothing but the adapter that put it there looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["chat", "responses", "messages"]
"""Which wire shape a request speaks: OpenAI chat, OpenAI Responses, Anthropic Messages."""

Label = Literal["normal", "partial", "refusal", "uncertain"]
"""A verdict's label. ``uncertain`` exists for prefixes only: no final verdict carries it."""

Kind = Literal["policy", "capability", "scope", "filter", "empty"]
"""Why a response is a refusal, where that is known."""

AttemptOutcome = Literal["accepted", "refused", "failed", "abandoned"]
"""What became of an attempt. ``abandoned``: the consumer left before it was decided."""

Ending = Literal["accepted", "fell_back", "exhausted", "failed", "abandoned"]
"""What became of a request. ``failed``: the first call raised, as it would have without demur."""

Started = Literal["breaker", "sticky", "probe"]
"""Why a request did not simply start at the model it asked for.

``breaker``: that model refuses too often, so a fallback was asked first; ``sticky``: its
conversation was refused before, and stays with the model that answered; ``probe``: it is the one
request that tries the requested model again.
"""

Limited = Literal["budget", "rights"]
"""What kept the request from another model.

``budget``: a refusal was not retried, since budgets had no room for another call; ``rights``: the
request would have started at a fallback, and its caller may use none.
"""

LABELS: tuple[Label, ...] = ("normal", "partial", "refusal")


@dataclass(frozen=True, slots=True)
class Signal:
    """What the provider's API itself said about a response; not yet the verdict.

    ``name`` is where it stood on the wire (``finish_reason``, ``stop_details.category``), ``value``
    the provider's own token (``content_filter``, ``cyber``), never free text. ``kind`` is what it
    hints at. A signal with ``refuses=False`` ended the text without being a refusal.
    """

    name: str
    value: str
    kind: Kind | None = None
    refuses: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a detector may look at: one choice of one response, reasoning already left out.

    ``text`` is the visible answer, ``refusal`` the text of the provider's own refusal field.
    ``non_text`` says that the choice holds a tool call, audio or an image: something was delivered.
    """

    text: str = ""
    refusal: str = ""
    signals: tuple[Signal, ...] = ()
    non_text: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A detector's answer about one ``Evidence``.

    ``score`` in [0, 1], higher is more refusal; ``threshold`` is the score at or above which
    ``stage`` calls it a refusal. ``degraded`` names what went wrong when a later stage should have
    answered and could not, or when no detector could.
    """

    label: Label
    score: float
    stage: str
    threshold: float = 0.5
    kind: Kind | None = None
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole response: one ``Evidence`` a choice, and the native object it was read from.

    ``choices`` is empty where the response could not be read; it is then not judged. Nor is one
    that is still ``running``, in the background.
    """

    choices: tuple[Evidence, ...]
    native: Any = None
    model: str | None = None
    usage: Usage | None = None
    running: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """What one chunk adds to choice ``index``.

    ``whole`` says again, at the end, all that the choice said; it counts where no delta said it.
    """

    index: int = 0
    text: str = ""
    refusal: str = ""
    signals: tuple[Signal, ...] = ()
    non_text: bool = False
    reasoning: bool = False
    finished: bool = False
    whole: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream: bytes or an item (``native``), and what it was read to say.

    ``opaque`` marks an error event or something unreadable: from there on the stream is passed
    through unjudged, as without demur. ``done`` marks the API's own end of a stream, after which
    an upstream may keep the connection open for as long as it likes.
    """

    native: Any
    deltas: tuple[Delta, ...] = ()
    model: str | None = None
    usage: Usage | None = None
    opaque: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A model that can be called. ``name`` identifies it in policies, records and headers.

    ``patch`` holds further request fields to set (``{"temperature": 0.2}``), applied to the
    original request. ``base_url`` and ``api_key_env`` are set for targets that live elsewhere by
    the policy; ``elsewhere`` says that the application has a client of its own for the target.
    """

    name: str
    model: str
    patch: Mapping[str, Any] = field(default_factory=dict, hash=False)
    base_url: str | None = None
    api_key_env: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call. ``model`` was asked for, ``served_model`` is what the response names.

    ``verdict`` is ``None`` where nothing could be judged, ``error`` the exception's type name where
    the call failed. ``seconds`` is the wall time of the call, for streams until it was decided.
    ``evidence`` is kept only where the policy's audit asks for content, one entry a choice; no
    representation, log line or record but the audit's shows it.
    """

    target: str
    model: str
    outcome: AttemptOutcome
    verdict: Verdict | None = None
    served_model: str | None = None
    usage: Usage | None = None
    seconds: float = 0.0
    error: str | None = None
    evidence: tuple[Evidence, ...] = field(default=(), repr=False, compare=False)

    @property
    def label(self) -> Label | None:
        """The verdict's label; ``None`` where nothing could be judged."""
        return None if self.verdict is None else self.verdict.label

    @property
    def score(self) -> float | None:
        """The verdict's score; ``None`` where nothing could be judged."""
        return None if self.verdict is None else self.verdict.score


@dataclass(frozen=True, slots=True)
class Outcome:
    """What demur saw and did for one request. Holds no prompt, and no response text by itself.

    ``served`` indexes the attempt the caller got (``None`` if none was served). ``would`` is what
    an enforcing policy would have done, where shadow mode kept demur from doing it.
    ``added_seconds`` is the time the caller waited because of demur: refused attempts, fallbacks
    that failed, and detection. ``held_seconds`` is how long the first released chunk of a stream
    was kept. ``finished`` is ``False`` while a stream still runs. ``id`` names the request, by the
    gateway's own id where it has one; ``time`` is when it began, in seconds since the epoch.
    ``policy`` is the policy's fingerprint, ``metadata`` what its rules ask of the request's.
    A request that was ``started`` by ``breaker`` or ``sticky`` has no attempt at the requested
    model before all others have failed; in shadow mode ``started`` is what would have been done.
    A stream is ``late`` if what its rule would have acted on was seen only once it was released.
    """

    api: Api
    requested_model: str
    ending: Ending
    attempts: tuple[Attempt, ...] = ()
    served: int | None = None
    rule: str | None = None
    shadow: bool = False
    would: Ending | None = None
    stream: bool = False
    added_seconds: float = 0.0
    detection_seconds: float = 0.0
    held_seconds: float | None = None
    finished: bool = True
    policy: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    started: Started | None = None
    limited: Limited | None = None
    late: bool = False
    id: str | None = field(default=None, compare=False)
    time: float | None = field(default=None, compare=False)

    @property
    def served_attempt(self) -> Attempt | None:
        return None if self.served is None else self.attempts[self.served]

    @property
    def served_model(self) -> str | None:
        """The model that answered the caller, as its response names it, else as asked for."""
        attempt = self.served_attempt
        return None if attempt is None else attempt.served_model or attempt.model

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on what the caller got."""
        attempt = self.served_attempt
        return None if attempt is None else attempt.verdict

    @property
    def fell_back(self) -> bool:
        """Whether another target than the requested one answered the caller."""
        served = self.served_attempt
        if served is None or not self.moved:
            return bool(self.served)
        if self.ending == "exhausted":
            return served.target != self.requested_model
        return self.ending == "fell_back"

    @property
    def moved(self) -> bool:
        """Whether the request started at another target than the requested one."""
        return self.started in ("breaker", "sticky") and not self.shadow

    @property
    def refused_usage(self) -> Usage:
        """Tokens spent on attempts that the caller never saw."""
        spent = [a.usage for i, a in enumerate(self.attempts) if i != self.served and a.usage]
        return Usage(sum(u.input_tokens for u in spent), sum(u.output_tokens for u in spent))

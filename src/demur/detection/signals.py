"""What the provider itself said: its tokens as ``Signal``s, and the detector that weighs them.

The names are those of OpenAI, Azure, Anthropic, Gemini, Bedrock and others, native or folded into
OpenAI's shape by a gateway (LiteLLM 1.108 keeps the native token of a folded finish reason in
``provider_specific_fields``, where it keeps it at all).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..vocabulary import Evidence, Kind, Label, Signal, Verdict
from .text import visible

CUT_OFF_CHARS: Final = 200
"""A filter that steps in after this much visible text cut an answer off; before it, refused one."""

DECIDED_REFUSAL: Final = 1.0
DECIDED_NORMAL: Final = 0.0
REFUSAL_FIELD: Final = 0.75
CUT_OFF: Final = 0.4
SILENT: Final = 0.25

_NATURAL = frozenset(
    {
        "stop",
        "stop_sequence",
        "end_turn",
        "complete",
        "completed",
        "eos",
        "eos_token",
        "finish_reason_stop",
    }
)
_REFUSING: Mapping[str, Kind] = {
    "refusal": "policy",
    "content_filter": "filter",
    "content_filtered": "filter",
    "safety": "filter",
    "prohibited_content": "filter",
    "blocklist": "filter",
    "spii": "filter",
    "image_safety": "filter",
    "image_prohibited_content": "filter",
    "jailbreak": "filter",
    "model_armor": "filter",
    "guardrail_intervened": "filter",
    "error_toxic": "filter",
    "sensitive": "filter",
}
_ENDED = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "recitation",
        "language",
        "other",
        "no_image",
        "image_recitation",
        "image_other",
        "malformed_function_call",
        "malformed_response",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "error",
        "network_error",
    }
)
_TOKEN = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


def ending(name: str, reason: object) -> tuple[Signal, ...]:
    """The signal in a finish reason; none where it is absent or a natural stop.

    Whatever is not known to refuse (``length``, ``RECITATION``, ``OTHER``, a token nobody has seen
    yet) only says that the text ended for a reason of its own.
    """
    value = token(reason)
    if value is None or value.lower() in _NATURAL:
        return ()
    kind = _REFUSING.get(value.lower())
    return (Signal(name, value, kind, refuses=kind is not None),)


def folded_ending(name: str, reason: object, native: object) -> tuple[Signal, ...]:
    """``ending`` where a gateway may have folded the provider's own token into ``reason``.

    The native token decides where it is a known one: LiteLLM calls Gemini's ``RECITATION`` a
    ``content_filter``, Gemini's OpenAI endpoint says ``content_filter: PROHIBITED_CONTENT``.
    """
    if native is None and isinstance(reason, str) and ": " in reason:
        reason, native = reason.split(": ", 1)
    if isinstance(native, str) and native.lower() in (_REFUSING.keys() | _ENDED):
        return ending("native_finish_reason", native)
    return ending(name, reason)


def filtered(results: object) -> tuple[Signal, ...]:
    """The categories of Azure's ``content_filter_results`` that were filtered, not just scored."""
    if not isinstance(results, Mapping):
        return ()
    return tuple(
        Signal("content_filter_results", token(category) or "other", "filter")
        for category, result in results.items()
        if isinstance(result, Mapping) and result.get("filtered") is True
    )


def masked(trace: object) -> tuple[Signal, ...]:
    """Whether Bedrock's guardrail, by its trace, only masked words and blocked nothing.

    Bedrock says ``guardrail_intervened`` for both, and a masked answer is an answer.
    """
    actions: set[str] = set()
    pending = [trace]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            action = value.get("action")
            actions |= {action} if isinstance(action, str) else set()
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    if "ANONYMIZED" not in actions or "BLOCKED" in actions:
        return ()
    return (Signal("trace.guardrail", "ANONYMIZED", refuses=False),)


def anthropic_stop(fields: Mapping[str, Any]) -> tuple[Signal, ...]:
    """``stop_reason``, and the category of ``stop_details`` where a refusal has one."""
    signals = ending("stop_reason", fields.get("stop_reason"))
    details = fields.get("stop_details")
    if isinstance(details, Mapping):
        category = token(details.get("category"))
        if details.get("type") == "refusal" and not any(s.kind == "policy" for s in signals):
            signals += (Signal("stop_details.type", "refusal", "policy"),)
        if category is not None and any(s.kind == "policy" for s in signals):
            signals += (Signal("stop_details.category", category, "policy"),)
    return signals


def token(value: object) -> str | None:
    """A provider's token, safe to record: text that is no token is never repeated."""
    if not isinstance(value, str) or not value:
        return None
    return value if _TOKEN.fullmatch(value) else "other"


class SignalsDetector:
    """Judges by signals alone, and says so when they are silent.

    A tool call or another delivery that is no text is ``normal``. A provider's refusal is one, as
    is a filter that left less than ``CUT_OFF_CHARS`` of text, and an empty answer that ended of
    itself: these score 0 or 1. The rest scores between and is left to the stages that read. Text
    in the refusal field can be a good answer, so it counts as a refusal only until a later stage
    has read it; a filter that cut off a longer text makes it ``partial``, unless the text itself
    refuses. ``silent`` tells whether anything was said at all.
    """

    name: Final = "signals"
    blocking: Final = False

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        kinds = _kinds(evidence.signals)
        text = visible(evidence.text).strip()
        if "policy" in kinds:
            return _verdict("refusal", DECIDED_REFUSAL, "policy")
        if "filter" in kinds:
            if not evidence.non_text and len(text) < CUT_OFF_CHARS:
                return _verdict("refusal", DECIDED_REFUSAL, "filter")
            return _verdict("partial", CUT_OFF, "filter")
        if evidence.non_text:
            return _verdict("normal", DECIDED_NORMAL)
        if not final:
            return _verdict("uncertain", SILENT)
        if not text and evidence.refusal.strip():
            return _verdict("refusal", REFUSAL_FIELD, "policy")
        if not text and all(signal.refuses for signal in evidence.signals):
            return _verdict("refusal", DECIDED_REFUSAL, "empty")
        return _verdict("normal", SILENT)


def silent(verdict: Verdict) -> bool:
    """Whether ``verdict`` is the signals' own, and they had nothing to say."""
    return verdict.stage == SignalsDetector.name and verdict.score == SILENT


def _kinds(signals: tuple[Signal, ...]) -> set[Kind | None]:
    kinds = {signal.kind for signal in signals if signal.refuses}
    if any(signal.name == "trace.guardrail" and not signal.refuses for signal in signals):
        kinds.discard("filter")
    return kinds


def _verdict(label: Label, score: float, kind: Kind | None = None) -> Verdict:
    return Verdict(label, score, SignalsDetector.name, kind=kind)

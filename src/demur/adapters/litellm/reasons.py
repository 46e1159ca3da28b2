"""What a provider itself said of a response, where LiteLLM says ``content_filter`` for it.

Gemini's finish reasons and block reasons are folded into that word: ``RECITATION``, which is no
refusal, as well as ``SAFETY``. The provider's own response is still in LiteLLM's logging object,
unless it was a stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

_FOLDED: Final = "content_filter"


def unfolded(payload: Mapping[str, Any], logging_obj: Any) -> Mapping[str, Any]:
    """A chat completion with the provider's own reasons, where it is one of Gemini's."""
    choices = payload.get("choices")
    if not isinstance(choices, list) or not any(_is_folded(choice) for choice in choices):
        return payload
    original = _original(logging_obj)
    candidates = original.get("candidates")
    reasons = [_reason(c) for c in candidates] if isinstance(candidates, list) else []
    reasons += [None] * (len(choices) - len(reasons))
    return {
        **payload,
        "promptFeedback": original.get("promptFeedback"),
        "choices": [
            {**choice, "native_finish_reason": reason} if reason and _is_folded(choice) else choice
            for choice, reason in zip(choices, reasons, strict=False)
        ],
    }


def _is_folded(choice: object) -> bool:
    return isinstance(choice, Mapping) and choice.get("finish_reason") == _FOLDED


def _original(logging_obj: Any) -> Mapping[str, Any]:
    details = getattr(logging_obj, "model_call_details", None)
    body = details.get("original_response") if isinstance(details, Mapping) else None
    if isinstance(body, str | bytes):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, Mapping) else {}


def _reason(candidate: object) -> str | None:
    reason = candidate.get("finishReason") if isinstance(candidate, Mapping) else None
    return reason if isinstance(reason, str) else None

"""An outcome as HTTP headers. Names, labels and numbers: never text of a response."""

from __future__ import annotations

from typing import Any

from ...vocabulary import Outcome


def headers_of(outcome: Outcome) -> dict[str, str]:
    """``x-demur-*`` headers for what the caller got.

    The served model is the gateway's own name for it: LiteLLM rewrites the response's ``model``.
    """
    found = {"x-demur-attempts": str(len(outcome.attempts))}
    if outcome.rule is not None:
        found["x-demur-rule"] = outcome.rule
    if outcome.served_attempt is not None:
        found["x-demur-served-model"] = outcome.served_attempt.model
    if outcome.verdict is not None:
        found["x-demur-label"] = outcome.verdict.label
        found["x-demur-score"] = f"{outcome.verdict.score:.3f}"
        found["x-demur-source"] = outcome.verdict.stage
    return {name: _header_safe(value) for name, value in found.items()}


def _header_safe(value: str) -> str:
    return "".join(c if c.isprintable() else " " for c in value).encode("ascii", "replace").decode()


def show(response: Any, outcome: Outcome) -> None:
    """Put the headers where LiteLLM and its SDK users look for a response's headers.

    For a proxied stream this works until its first item is handed over.
    """
    hidden = getattr(response, "_hidden_params", None)
    if not isinstance(hidden, dict):
        return
    shown = hidden.get("additional_headers")
    hidden["additional_headers"] = {**(shown or {}), **headers_of(outcome)}


def show_fallback(item: Any, outcome: Outcome) -> None:
    """Mark a stream's first chunk as a fallback's, for LiteLLM to name the model that serves it."""
    hidden = getattr(item, "_hidden_params", None)
    if outcome.fell_back and outcome.served_attempt is not None and isinstance(hidden, dict):
        hidden["additional_headers"] = {
            **(hidden.get("additional_headers") or {}),
            "x-litellm-attempted-fallbacks": len(outcome.attempts) - 1,
            "x-litellm-model-group": outcome.served_attempt.model,
        }

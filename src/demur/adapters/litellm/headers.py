"""An outcome as HTTP headers. Names, labels and numbers: never text of a response."""

from __future__ import annotations

from collections.abc import Mapping
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
    if outcome.started is not None:
        found["x-demur-started"] = outcome.started
    if outcome.limited is not None:
        found["x-demur-limited"] = outcome.limited
    return {name: _header_safe(value) for name, value in found.items()}


def _header_safe(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if c.isprintable() else " " for c in value).encode("ascii", "replace").decode()


def show(response: Any, outcome: Outcome) -> None:
    """Put the headers where LiteLLM and its SDK users look for a response's headers."""
    _add(response, headers_of(outcome))


def show_in_stream(response: Any, served: Any, first: Any, outcome: Outcome) -> None:
    """The same for a proxied stream, where it works until its ``first`` item is handed over.

    A fallback is marked as LiteLLM marks its own, so that headers and chunks name the model that
    serves them: ``served`` is its stream.
    """
    if outcome.fell_back:
        _adopt(response, served)
        mark_fallback(response, outcome)
        mark_fallback(first, outcome)
    _add(response, headers_of(outcome))


def mark_fallback(response: Any, outcome: Outcome) -> None:
    """Say as LiteLLM does that another model group answered than was asked for."""
    if outcome.served_attempt is not None:
        first = outcome.attempts[0].model
        passed_over = 1 if outcome.moved or first != outcome.requested_model else 0
        marks = {
            "x-litellm-attempted-fallbacks": len(outcome.attempts) - 1 + passed_over,
            "x-litellm-model-group": outcome.served_attempt.model,
        }
        _add(response, marks)


def shown_group(response: Any) -> str | None:
    """The model group LiteLLM's own headers say a response came from."""
    group = _shown(response, "x-litellm-model-group")
    return group if isinstance(group, str) else None


def shown_hops(response: Any) -> Any:
    """And how many fallbacks its Router had called by then, if it says so."""
    return _shown(response, "x-litellm-attempted-fallbacks")


def _shown(response: Any, name: str) -> Any:
    hidden = getattr(response, "_hidden_params", None)
    if isinstance(response, dict):
        hidden = response.get("_hidden_params")
    shown = hidden.get("additional_headers") if isinstance(hidden, dict) else None
    return shown.get(name) if isinstance(shown, dict) else None


def _adopt(response: Any, served: Any) -> None:
    """What LiteLLM's own headers are made from: deployment, address, cost."""
    hidden = getattr(response, "_hidden_params", None)
    of_served = getattr(served, "_hidden_params", None)
    if isinstance(hidden, dict) and isinstance(of_served, dict):
        hidden.update({k: v for k, v in of_served.items() if k != "litellm_call_id"})


def _add(holder: Any, headers: Mapping[str, Any]) -> None:
    hidden = getattr(holder, "_hidden_params", None)
    if isinstance(holder, dict):
        hidden = holder.get("_hidden_params")
    if isinstance(hidden, dict):
        hidden["additional_headers"] = {**(hidden.get("additional_headers") or {}), **headers}

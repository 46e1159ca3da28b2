"""What the gateway's own books say about a request: metadata, tags, and who pays for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...vocabulary import Outcome, Verdict


def bucket_name(data: Mapping[str, Any]) -> str:
    """Where LiteLLM keeps a request's metadata.

    ``litellm_metadata`` where it exists (on ``/v1/messages`` and ``/v1/responses`` the caller's own
    ``metadata`` goes to the provider), else ``metadata``.
    """
    return "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"


def metadata_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    found = data.get(bucket_name(data))
    return found if isinstance(found, Mapping) else {}


def bucket(data: dict[str, Any]) -> dict[str, Any]:
    """The metadata to write to, made if there is none."""
    name = bucket_name(data)
    if not isinstance(data.get(name), dict):
        data[name] = {}
    found: dict[str, Any] = data[name]
    return found


def add_tags(data: dict[str, Any], tags: Iterable[str]) -> None:
    """Add spend-log tags to this attempt's metadata.

    The list is replaced, not extended: LiteLLM's fallback hops share it with the attempts before.
    """
    tags = list(tags)
    if not tags:
        return
    metadata = bucket(data)
    before = metadata.get("tags")
    kept = list(before) if isinstance(before, list | tuple) else []
    metadata["tags"] = list(dict.fromkeys([*kept, *tags]))


def tags_of(outcome: Outcome) -> Iterator[str]:
    """``demur:<label>`` for every label seen that is not normal, and who served a fallback."""
    for attempt in outcome.attempts:
        if attempt.verdict is not None:
            yield from tags_of_verdict(attempt.verdict)
    if outcome.fell_back and outcome.served_attempt is not None:
        yield f"demur:served:{outcome.served_attempt.model}"


def tags_of_verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.label in ("partial", "refusal"):
        yield f"demur:{verdict.label}"

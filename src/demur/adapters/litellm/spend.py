"""What the gateway's own books say about a request: metadata, tags, and who pays for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ...vocabulary import Outcome, Verdict

BUCKETS: Final = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps a request's metadata: in one of these, or in both."""


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
    """Add spend-log tags to this attempt.

    Where the row is written from another copy of the metadata, that gets them too. Lists are
    replaced, not extended: fallback hops share them with the attempts before.
    """
    found = list(tags)
    if found:
        for metadata in (bucket(data), *logged(data.get("litellm_logging_obj"))):
            merge_tags(metadata, found)


def merge_tags(metadata: dict[str, Any], tags: Iterable[str]) -> None:
    """Add tags, each once, in a new list."""
    before = metadata.get("tags")
    kept = before if isinstance(before, list | tuple) else ()
    metadata["tags"] = list(dict.fromkeys([*kept, *tags]))


def logged(logging_obj: Any) -> Iterator[dict[str, Any]]:
    """The metadata LiteLLM's logging object holds for this attempt."""
    details = getattr(logging_obj, "model_call_details", None)
    params = details.get("litellm_params") if isinstance(details, Mapping) else None
    for name in BUCKETS:
        metadata = params.get(name) if isinstance(params, Mapping) else None
        if isinstance(metadata, dict):
            yield metadata


def tags_of(outcome: Outcome) -> Iterator[str]:
    """``demur:<label>`` for every label seen that is not normal, and who served a fallback."""
    for attempt in outcome.attempts:
        if attempt.verdict is not None:
            yield from tags_of_verdict(attempt.verdict)
    if outcome.fell_back and outcome.served_attempt is not None:
        yield f"demur:served:{outcome.served_attempt.model}"
    if outcome.started is not None:
        yield f"demur:started:{outcome.started}"
    if outcome.limited is not None:
        yield f"demur:limited:{outcome.limited}"


def tags_of_verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.label in ("partial", "refusal"):
        yield f"demur:{verdict.label}"

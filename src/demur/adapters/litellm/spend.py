"""What the gateway's own books say about a request: metadata, tags, and who pays for what."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import anyio.to_thread
import litellm

from ...vocabulary import Outcome, Verdict
from .chain import AttemptRefusedError


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
            _merge_tags(metadata, found)


def _merge_tags(metadata: dict[str, Any], tags: Iterable[str]) -> None:
    before = metadata.get("tags")
    kept = before if isinstance(before, list | tuple) else ()
    metadata["tags"] = list(dict.fromkeys([*kept, *tags]))


def logged(logging_obj: Any) -> Iterator[dict[str, Any]]:
    """The metadata LiteLLM's logging object holds for this attempt."""
    details = getattr(logging_obj, "model_call_details", None)
    params = details.get("litellm_params") if isinstance(details, Mapping) else None
    for name in ("metadata", "litellm_metadata"):
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


def tags_of_verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.label in ("partial", "refusal"):
        yield f"demur:{verdict.label}"


def set_apart(logging_obj: Any, marks: Mapping[str, list[Any]]) -> Any:
    """A copy of an attempt's logging object, so that nothing said or logged later changes its row.

    ``marks`` are entries for the row's metadata; tags are added to those there are.
    """
    attempt = copy.copy(logging_obj)
    attempt.model_call_details = dict(logging_obj.model_call_details)
    params = dict(attempt.model_call_details.get("litellm_params") or {})
    attempt.model_call_details["litellm_params"] = params
    params["metadata"] = dict(params.get("metadata") or {})
    params["litellm_metadata"] = dict(params.get("litellm_metadata") or {})
    for metadata in logged(attempt):
        _merge_tags(metadata, marks["tags"])
        metadata.update({k: v for k, v in marks.items() if k != "tags"})
    return attempt


async def log_refused(attempt: Any, response: litellm.ModelResponse) -> None:
    """Log a refused attempt that LiteLLM will not: as a failed one that was paid for.

    ``attempt`` is its logging object, set apart. Like every end of a request this gives back the
    caller's slot of ``max_parallel_requests``.
    """
    model = str(attempt.model_call_details.get("model") or "")
    attempt.record_assembled_response_for_failure(response)
    await attempt.async_failure_handler(AttemptRefusedError(model), "")


def keep_out_of_the_log(logging_obj: Any) -> None:
    """Have LiteLLM not log this call's success: what it returns is another call's, logged there."""
    claim = getattr(logging_obj, "claim_async_success_log", None)
    if claim is not None:
        claim()


async def counted(request: Mapping[str, Any], model: str, text: str) -> litellm.ModelResponse:
    """A response with the usage of a stream that was dropped after ``text``."""
    usage = await anyio.to_thread.run_sync(_counted, model, request, text)
    return litellm.ModelResponse(model=model, usage=usage)


def _counted(model: str, request: Mapping[str, Any], text: str) -> litellm.Usage:
    asked = request.get("messages")
    prompt: dict[str, Any] = {"messages": asked} if asked else {"text": str(request.get("input"))}
    before = litellm.token_counter(model=model, **prompt)
    after = litellm.token_counter(model=model, text=text)
    return litellm.Usage(prompt_tokens=before, completion_tokens=after, total_tokens=before + after)

"""What is left of demur on requests and responses: tags, the guardrail record, the outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.types.utils import GuardrailStatus, GuardrailTracingDetail

from ...attachment import attach
from ...flow.plan import Plan
from ...vocabulary import Verdict
from .exchange import Exchange
from .headers import show
from .rows import Marks
from .spend import add_tags, bucket, logged, tags_of, tags_of_verdict

RECORDS: Final = "standard_logging_guardrail_information"


def mark(guardrail: CustomGuardrail, found: Exchange, data: dict[str, Any]) -> None:
    """Tag this attempt's row in the gateway's log, and say there what the guardrail found."""
    if not found.plan.tags:
        return
    if found.outcome is not None:
        add_tags(data, tags_of(found.outcome))
    elif found.verdict is not None:
        add_tags(data, tags_of_verdict(found.verdict))
    _record(guardrail, found, data)


def _record(guardrail: CustomGuardrail, found: Exchange, data: dict[str, Any]) -> None:
    """Put LiteLLM's standard guardrail record into this attempt's row, in place of an earlier one.

    Hops share the lists in their metadata, so these are replaced, not changed.
    """
    entries = record_of(guardrail, found.verdict, found.seconds, replaced=found.replaced)
    for metadata in (bucket(data), *logged(data.get("litellm_logging_obj"))):
        metadata[RECORDS] = [*_of_others(guardrail, metadata.get(RECORDS)), *entries]


def _of_others(guardrail: CustomGuardrail, records: Any) -> Iterable[Any]:
    for entry in records if isinstance(records, list) else ():
        if not isinstance(entry, dict) or entry.get("guardrail_name") != guardrail.guardrail_name:
            yield entry


def forget_record(guardrail: CustomGuardrail, data: dict[str, Any]) -> None:
    """Keep the record of the attempt before off the next one's row, which may fail unjudged."""
    metadata = bucket(data)
    if RECORDS in metadata:
        metadata[RECORDS] = list(_of_others(guardrail, metadata[RECORDS]))


def record_of(
    guardrail: CustomGuardrail, verdict: Verdict | None, seconds: float, *, replaced: bool = False
) -> list[Any]:
    """One attempt's record: status, duration in seconds, label, score; never text."""
    scratch: dict[str, Any] = {"metadata": {}}
    end = time.time()
    told: dict[str, Any] = {}
    detail: GuardrailTracingDetail | None = None
    if verdict is not None:
        told = {"label": verdict.label, "kind": verdict.kind}
        detail = {
            "detection_method": verdict.stage,
            "confidence_score": verdict.score,
            "classification": told,
        }
    guardrail.add_standard_logging_guardrail_information_to_request_data(
        told,
        scratch,
        _status(verdict, replaced=replaced),
        start_time=end - seconds,
        end_time=end,
        duration=seconds,
        guardrail_provider="demur",
        tracing_detail=detail,
    )
    found: list[Any] = scratch["metadata"][RECORDS]
    return found


def _status(verdict: Verdict | None, *, replaced: bool) -> GuardrailStatus:
    if verdict is None:
        return "not_run"
    if replaced:
        return "guardrail_intervened"
    if verdict.stage == "none":
        return "guardrail_failed_to_respond"
    return "success" if verdict.label == "normal" else "guardrail_flagged"


def marks_of(
    guardrail: CustomGuardrail, plan: Plan, verdict: Verdict | None, seconds: float = 0.0
) -> Marks:
    """What marks the row of an attempt that was dropped."""
    if not plan.tags:
        return {"tags": []}
    return {
        "tags": [] if verdict is None else list(tags_of_verdict(verdict)),
        RECORDS: record_of(guardrail, verdict, seconds, replaced=True),
    }


def marks_of_served(guardrail: CustomGuardrail, found: Exchange) -> Marks:
    """What marks the row of the attempt that is served in the end."""
    if found.outcome is None or not found.plan.tags:
        return {"tags": []}
    return {
        "tags": list(dict.fromkeys(tags_of(found.outcome))),
        RECORDS: record_of(guardrail, found.outcome.verdict, found.seconds),
    }


def show_outcome(found: Exchange, response: Any) -> None:
    """Let SDK users ask the response for its outcome, and see the headers a proxy would send."""
    if found.outcome is not None and found.plan.tags:
        attach(response, lambda: found.outcome)
        show(response, found.outcome)

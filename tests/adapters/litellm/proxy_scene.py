"""What the proxies of the tests are set up with: upstream models, model groups, a policy."""

from __future__ import annotations

import re
from typing import Any

from demur.testing import Reply, ToolCall

REFUSAL = "I'm sorry, but I can't help with that request."
ANSWER = "Sure. Lisbon is the capital of Portugal, and it lies on the river Tagus."
SECOND = "Of course. The second model says that Lisbon is the capital of Portugal."

SCRIPT: dict[str, Any] = {
    "m-refusing": Reply(REFUSAL, delay=0.02),
    "m-refusing-slowly": Reply(REFUSAL + " Sorry." * 40, delay=0.05),
    "m-helpful": Reply(ANSWER, chunks=tuple(re.findall(r"\S+ ?", ANSWER))),
    "m-talkative": Reply(" ".join([ANSWER] * 20), delay=0.02),
    "m-dawdling": Reply(SECOND, first_delay=2.0),
    "m-second": Reply(SECOND, chunk_size=7),
    "m-late": Reply(
        "Lisbon is a lovely place, and I am glad that you ask about it. "
        * 3
        + "\n\nI'm sorry, but I can't help with this. I'm not able to assist with requests of this "
        "kind, and I won't go on."
    ),
    "m-also-refusing": Reply("I'm sorry, I can't do that either."),
    "m-broken": Reply("scripted failure", status=400),
    "m-forbidding": Reply("invalid_request_error: content_policy_violation", status=400),
    "m-tools": Reply(tool_calls=(ToolCall("look_up", '{"city": "Lisbon"}'),)),
    "m-raise": Reply("Please raise your hand. I'm sorry, but I can't help with that."),
    "m-hang": Reply("Do hang on. I'm sorry, but I can't help with that."),
}
GROUPS = {
    "primary": "m-refusing",
    "slow": "m-refusing-slowly",
    # A provider that knows chat completions only: LiteLLM translates the other surfaces.
    "translated": "hosted_vllm/m-refusing-slowly",
    "helpful": "m-helpful",
    "talkative": "m-talkative",
    "second": "m-second",
    "dawdling": "m-dawdling",
    "stubborn": "m-also-refusing",
    "broken": "m-broken",
    "forbidden": "m-forbidding",
    "rerouted": "m-forbidding",
    "tools": "m-tools",
    "raising": "m-raise",
    "hanging": "m-hang",
    **dict.fromkeys(
        [
            "both",
            "hops",
            "after-broken",
            "only-broken",
            "last",
            "error",
            "shadowed",
            "patched",
            "leaving",
            "hasty",
        ],
        "m-refusing",
    ),
}


def _rule(model: str, *fallbacks: Any, **more: Any) -> dict[str, Any]:
    retry = {"fallbacks": list(fallbacks), **more.pop("retry", {})}
    return {
        "name": f"rule-{model}",
        "match": {"model": model},
        "actions": ["tag", "log", "retry"],
        "retry": retry,
        **more,
    }


POLICY = {
    "version": 1,
    "rules": [
        *(
            _rule(m, "second")
            for m in (
                "primary",
                "slow",
                "translated",
                "helpful",
                "talkative",
                "tools",
                "raising",
                "hanging",
            )
        ),
        _rule("both", "stubborn"),
        _rule("leaving", "talkative"),
        _rule("hasty", "dawdling"),
        _rule("hops", "stubborn", "second"),
        _rule("after-broken", "broken", "second"),
        _rule("only-broken", "broken"),
        _rule("forbidden", "second"),
        _rule("rerouted", "second", retry={"provider_errors": True}),
        _rule("last", "stubborn", retry={"exhausted": "last"}),
        _rule("error", "stubborn", retry={"exhausted": "error"}),
        _rule("shadowed", "second", mode="shadow"),
        _rule("patched", {"model": "second", "temperature": 0.25}),
        {"name": "rest", "actions": ["tag", "log"]},
    ],
}


def rule(model: Any, *fallbacks: Any, **retry: Any) -> dict[str, Any]:
    """A policy's rule that retries refusals of a model, or of any of several."""
    return {
        "name": str(model),
        "match": {"model": model},
        "actions": ["tag", "log", "retry"],
        "retry": {"fallbacks": list(fallbacks), **retry},
    }

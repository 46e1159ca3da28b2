"""What is legal but suspicious, and what is not."""

from __future__ import annotations

import pytest

from demur.policy import check_policy, lint, parse_policy

RETRY = "rules: [{name: a, actions: [tag, retry], retry:"
RETRY_M = "rules: [{name: a, match: {model: m}, actions: [tag, retry], retry:"


def warnings(text: str) -> list[tuple[str, str]]:
    return [(warning.key, warning.message) for warning in lint(parse_policy(text))]


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            f"audit: {{path: a.jsonl}}\n{RETRY} {{fallbacks: [m]}}}}]",
            "audit",
            "has no effect: no rule has the action log",
        ),
        ("metrics: [prometheus]\nrules: [{name: a, actions: []}]", "metrics", "the action log"),
        (
            "detector: {stages: [signals], thresholds: {refusal: 0.9}}",
            "detector.thresholds.refusal",
            "has no effect: signals have no score",
        ),
        (
            "rules: [{name: a, actions: [log], stream: {tell: comment}}]",
            "rules[0].stream.tell",
            "nothing is told without the action tag",
        ),
        (
            "rules: [{name: a, match: {model: , api: chat}}]",
            "rules[0].match.model",
            "is empty, and so matches any",
        ),
        ("rules: [{name: a}, {name: b}]", "rules[1]", "can never match: rules[0] (a)"),
        (
            "rules: [{name: a, match: {model: 'gpt-*'}}, {name: b, match: {model: gpt-4}}]",
            "rules[1]",
            "can never match",
        ),
        (
            "rules: [{name: a, match: {model: '*'}}, {name: b, match: {stream: true}}]",
            "rules[1]",
            "can never match",
        ),
        (
            "rules: [{name: a, match: {api: [chat, messages, responses]}}, {name: b}]",
            "rules[1]",
            "can never match",
        ),
        (
            "rules: [{name: a, match: {metadata: {t: 'x*'}}}, "
            "{name: b, match: {model: m, metadata: {t: xy, u: z}}}]",
            "rules[1]",
            "can never match",
        ),
        (
            f"{RETRY_M} {{fallbacks: [n, m]}}}}]",
            "rules[0].retry.fallbacks[1]",
            "'m' is the model that has just refused",
        ),
        (
            "rules: [{name: a, match: {model: [k, m]}, actions: [retry], retry: {fallbacks: [m]}}]",
            "rules[0].retry.fallbacks[0]",
            "has just refused",
        ),
        (
            f"{RETRY} {{fallbacks: [m, n, m]}}}}]",
            "rules[0].retry.fallbacks[2]",
            "in the chain already",
        ),
        (
            f"{RETRY} {{fallbacks: [m, n, o], attempts: 2}}}}]",
            "rules[0].retry.attempts",
            "never reach n, o",
        ),
        (
            f"{RETRY} {{fallbacks: [m], attempts: 3}}}}]",
            "rules[0].retry.attempts",
            "only 2 attempts",
        ),
        ("rules: [{name: a, retry: {fallbacks: [m]}}]", "rules[0].retry", "add retry to actions"),
        ("targets: {a: {model: m}}", "targets.a", "no rule falls back to this target"),
        (
            f"targets: {{local: {{model: m}}}}\n{RETRY} {{fallbacks: [locl]}}}}]",
            "targets.local",
            "falls back to 'locl', is that meant?",
        ),
        (
            "targets: {t: {model: m, base_url: 'http://example.com/v1', api_key_env: K}}\n"
            f"{RETRY} {{fallbacks: [t]}}}}]",
            "targets.t.base_url",
            "use https",
        ),
        ("detector: {transformer: {}}", "detector.transformer", "add transformer to stages"),
        (
            "detector: {stages: [transformer], transformer: {backend: onnx, device: cuda}}",
            "detector.transformer.device",
            "onnx runs on the processor",
        ),
        (
            "detector: {stages: [transformer], transformer: {threads: 2}}",
            "detector.transformer.threads",
            "only onnx",
        ),
        ("audit: {dsn: 'sqlite:///a.db', keep: 3}", "audit.keep", "only files are rotated"),
        (
            "audit: {dsn_env: URL, max_bytes: 9}",
            "audit.max_bytes",
            "only files are rotated",
        ),
        (
            "rules: [{name: a, stream: {hold_back: {chars: 80}}}]",
            "rules[0].stream.hold_back",
            "nothing is held",
        ),
        ("detector: {thresholds: {refusal: 0}}", "detector.thresholds.refusal", "every response"),
        ("detector: {thresholds: {refusal: 1}}", "detector.thresholds.refusal", "hardly any"),
        (
            "rules: [{name: a, match: {stream: false}, stream: {at_cap: judge}}]",
            "rules[0].stream",
            "not streamed",
        ),
        ("budgets: [{calls: 3}]", "budgets", "no rule retries"),
        (f"{RETRY} {{fallbacks: [m]}}}}]\nshared: {{redis_env: R}}", "shared", "no rule has a"),
        (
            f"{RETRY} {{fallbacks: [m]}}}}]\nbudgets: [{{calls: 3}}]\nprices: {{m: {{}}}}",
            "prices",
            "no budget limits the cost",
        ),
        (
            f"{RETRY} {{fallbacks: [m, n]}}}}]\nbudgets: [{{cost: 3.0}}]\nprices: {{m: {{}}}}",
            "prices",
            "'n' has no price",
        ),
        (
            "rules: [{name: a, retry: {fallbacks: [m], breaker: {}}}]",
            "rules[0].retry",
            "add retry to actions",
        ),
    ],
)
def test_suspicious(text: str, key: str, said: str) -> None:
    """Each suspicious setting gives one warning, at its place."""
    ((found, message),) = warnings(text)
    assert found == key
    assert said in message


@pytest.mark.parametrize(
    "text",
    [
        "version: 1",
        f"{RETRY} {{fallbacks: [m], breaker: {{}}}}}}]\nshared: {{redis_env: R}}",
        f"{RETRY} {{fallbacks: [m]}}}}]\nshared: {{redis_env: R}}\nbudgets: [{{calls: 9}}]",
        "detector: {stages: [signals, transformer]}",
        "rules: [{name: a, match: {model: 'gpt-*'}}, {name: b, match: {model: 'g*'}}]",
        "rules: [{name: a, match: {model: 'a?'}}, {name: b, match: {model: 'a*'}}]",
        "rules: [{name: a, match: {stream: true}}, {name: b}]",
        "rules: [{name: a, match: {api: [chat, messages]}}, {name: b}]",
        "rules: [{name: a, match: {metadata: {t: '*'}}}, {name: b}]",
        "rules: [{name: a, match: {model: [a, b]}}, {name: b, match: {model: [b, c]}}]",
        "rules: [{name: a, match: {model: 'm*'}, actions: [retry], retry: {fallbacks: [m2]}}]",
        f"{RETRY_M} {{fallbacks: [{{model: m, top_p: 1}}]}}}}]",
        f"{RETRY} {{fallbacks: [m, {{model: m, top_p: 1}}], attempts: 3}}}}]",
        "targets: {m: {model: m, base_url: 'http://127.0.0.1/v1', api_key_env: K}}\n"
        f"{RETRY_M} {{fallbacks: [m]}}}}]",
        f"mode: shadow\n{RETRY} {{fallbacks: [m]}}}}]",
        "rules: [{name: a, match: {stream: false}}]",
        "detector: {stages: [transformer], transformer: {backend: onnx, device: cpu, threads: 2}}",
        "audit: {path: a.jsonl, max_bytes: 9, keep: 3}",
        "metrics: [prometheus]\nrules: [{name: a, match: {model: m}, actions: []}, {name: b}]",
        "rules: [{name: a, stream: {tell: comment}}]",
        "rules: [{name: a, actions: [error], mode: shadow, stream: {at_cap: judge}}]",
    ],
)
def test_not_suspicious(text: str) -> None:
    """What can well be meant gives no warning."""
    assert warnings(text) == []


def test_a_budget_of_cost_needs_prices() -> None:
    """Without any prices only LiteLLM knows what a call costs."""
    rule = {"name": "a", "actions": ["retry"], "retry": {"fallbacks": ["b"]}}
    _, warnings = check_policy({"rules": [rule], "budgets": [{"calls": 1}, {"cost": 1.0}]})
    (warning,) = warnings
    assert warning.key == "budgets[1].cost"
    assert "add prices" in warning.message

"""The policies that come with demur, and the schema published for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from demur.policy import InvalidPolicyError, Policy, check_policy, json_schema
from demur.policy.schema import HoldBack
from demur.policy.standing_settings import Breaker, Budget, Sticky

CONFIGS = Path(__file__).parents[2] / "configs"
POLICIES = ["default.yaml", "full.yaml", "resilient.yaml", "retry.yaml", "shadow.yaml"]


@pytest.mark.parametrize("name", POLICIES)
def test_shipped_policies_load_without_warnings(name: str) -> None:
    """Every shipped policy is valid and not even suspicious."""
    policy, warnings = check_policy(CONFIGS / name)
    assert isinstance(policy, Policy)
    assert warnings == ()


def test_no_shipped_policy_is_forgotten() -> None:
    """A new file in ``configs`` is tested here, or is the proxy's."""
    found = {path.name for path in CONFIGS.glob("*.yaml")}
    assert found - {"proxy.yaml"} == set(POLICIES)


def test_the_configuration_of_the_proxy_is_known_as_no_policy() -> None:
    """Who checks LiteLLM's file is told once where the policy stands."""
    with pytest.raises(InvalidPolicyError) as caught:
        check_policy(CONFIGS / "proxy.yaml")
    (problem,) = caught.value.problems
    assert "is a configuration of LiteLLM's proxy" in str(problem)
    assert "litellm_params: demur: {policy: FILE}" in str(problem)


def test_the_default_file_is_the_default() -> None:
    """``default.yaml`` says what happens without any file."""
    assert check_policy(CONFIGS / "default.yaml")[0] == Policy()


def test_the_full_example_means_what_the_design_says() -> None:
    """The example of every section: its chain, limits, targets and hold-back."""
    policy, _ = check_policy(CONFIGS / "full.yaml")
    rule = policy.rule_for(model="primary-1", api="chat", stream=True, metadata={"team": "support"})
    assert rule is not None
    assert rule.name == "support-bot"
    chain = policy.chain(rule)
    assert [target.model for target in chain] == ["second", "llama-3.3-70b", "third"]
    assert chain[1].base_url == "http://127.0.0.1:8000/v1"
    assert chain[2].patch == {"temperature": 0.2}
    assert rule.retry is not None
    assert (rule.retry.exhausted, rule.retry.seconds) == ("first", 30)
    assert rule.stream.hold_back.chars == 160
    assert policy.detector.thresholds.refusal == 0.5
    assert not policy.shadows(rule)


def test_the_resilient_example_means_what_it_says() -> None:
    """Breaker, stickiness, budgets, and the variable that names what replicas share."""
    policy, _ = check_policy(CONFIGS / "resilient.yaml")
    retry = policy.rules[0].retry
    assert retry is not None
    assert retry.breaker == Breaker(rate=0.5, window=60, least=20, pause=120)
    assert retry.sticky == Sticky(seconds=900, by="conversation_id")
    assert [(b.calls, b.seconds, b.cost, b.by) for b in policy.budgets] == [
        (60, 300, None, "all"), (None, None, 1.0, "key"),
    ]  # fmt: skip
    assert policy.shared is not None
    assert policy.shared.redis_env == "REDIS_URL"


def test_what_is_not_used_does_not_count() -> None:
    """Sections that the format has got since change no fingerprint where they are not used."""
    assert Policy().fingerprint == "e6979fe03ce1"
    assert Policy(budgets=(Budget(calls=1),)).fingerprint != Policy().fingerprint


def test_the_suspect_are_held_for_longer_in_proportion() -> None:
    """Who shortens the hold-back shortens both its caps, unless the second is given."""
    assert HoldBack().longest == 400
    assert HoldBack(chars=40).longest == 100
    assert HoldBack(chars=40, suspect_chars=40).longest == 40


def test_the_shadow_example_changes_nothing() -> None:
    """``shadow.yaml`` shadows every rule."""
    policy, _ = check_policy(CONFIGS / "shadow.yaml")
    assert all(policy.shadows(rule) for rule in policy.rules)


def test_the_published_schema_is_the_models() -> None:
    """Refresh with: demur policy schema > configs/policy.schema.json"""
    assert json.loads((CONFIGS / "policy.schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("name", POLICIES)
def test_the_published_schema_accepts_the_shipped_policies(name: str) -> None:
    """Editors and other validators agree with the loader on what is fine."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert list(validator.iter_errors(_yaml(name))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"modes": "shadow"},
        {"version": 2},
        {"rules": []},
        {"rules": [{"name": "a", "on": ["normal"]}]},
        {"rules": [{"name": "a", "retry": {"fallbacks": []}}]},
        {"detector": {"thresholds": {"refusal": 2}}},
        {"targets": {"a": {}}},
    ],
)
def test_the_published_schema_rejects_mistakes(wrong: dict[str, Any]) -> None:
    """The schema is as strict as the loader on keys, values and bounds."""
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(wrong)


def _yaml(name: str) -> Any:
    """As a YAML 1.2 editor reads it: ``on`` is a key, not ``true``."""
    return json.loads(json.dumps(yaml.load((CONFIGS / name).read_text(), Loader=_Yaml12)))


class _Yaml12(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

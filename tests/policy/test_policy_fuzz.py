"""Whatever comes in: a policy or a ``PolicyError``, never another exception."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from demur.errors import PolicyError
from demur.policy import Policy, json_schema, lint, load_policy, parse_policy

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["refusal", "retry", "error", "m", "*", "http://h", "http://[", "sk-x"])
)


def _keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {key for item in schema for key in _keys(item)}
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())) | _keys(list(schema.values()))


KEYS = sorted(_keys(json_schema()))
keys = st.sampled_from(KEYS) | st.text(max_size=4)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
odd = scalars | st.binary(max_size=3) | st.dates() | st.complex_numbers() | st.just(object())
odd_mappings = st.dictionaries(
    keys | st.integers() | st.none(), odd | st.lists(odd) | st.tuples(odd), max_size=5
)


def from_schema(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Data that mostly follows the schema, and now and then breaks it."""
    following = _following(schema, root)
    return st.integers(0, 30).flatmap(lambda draw: following if draw else anything)


def _following(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _following(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return st.one_of([_following(member, root) for member in schema["anyOf"]])
    if "minimum" in schema or "exclusiveMinimum" in schema:
        return st.sampled_from([1, 2, 0.5])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if schema.get("type") == "array":
        return st.lists(from_schema(schema["items"], root), min_size=1, max_size=2)
    if schema.get("type") == "object" and "properties" in schema:
        required = set(schema.get("required", ()))
        fields = {k: from_schema(v, root) for k, v in schema["properties"].items()}
        return st.fixed_dictionaries(
            {k: v for k, v in fields.items() if k in required},
            optional={k: v for k, v in fields.items() if k not in required},
        )
    values = {
        "string": st.sampled_from(["m", "n", "m*", "http://h/v1", "KEY"]) | st.text(max_size=3),
        "number": st.floats() | st.integers(),
        "integer": st.integers(),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return values.get(schema.get("type", ""), anything)


def load(source: Any) -> Policy | None:
    try:
        return load_policy(source)
    except PolicyError as told:
        error = told
    assert str(error)
    return None


@given(st.dictionaries(keys, anything, max_size=6) | odd_mappings)
def test_any_mapping_is_a_policy_or_an_error(mapping: dict[Any, Any]) -> None:
    """Mappings of anything under known and unknown keys."""
    load(mapping)


@settings(max_examples=300)
@given(_following(json_schema(), json_schema()))
def test_nearly_valid_mappings_are_a_policy_or_an_error(mapping: dict[str, Any]) -> None:
    """Mappings close to the schema; a policy that loads can be linted, used and dumped again."""
    _use(load(mapping))


@given(_following({"$ref": "#/$defs/Retry"}, json_schema()), st.sampled_from(["m", "*", "b"]))
def test_nearly_valid_chains_are_a_policy_or_an_error(retry: dict[str, Any], model: str) -> None:
    """The same for rules that retry, the part with the most to get wrong."""
    rule = {"name": "a", "match": {"model": model}, "actions": ["retry"], "retry": retry}
    _use(load({"targets": {"n": {"model": "b"}}, "rules": [rule, {"name": "b"}]}))


def _use(policy: Policy | None) -> None:
    event("a policy" if policy else "an error")
    if policy is None:
        return
    lint(policy)
    for rule in policy.rules:
        policy.chain(rule)
    policy.rule_for(model="m", api="chat", stream=True, metadata={"t": 1})
    again = Policy.model_validate(policy.model_dump(mode="json"))
    assert again == policy


@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?, \n\t\\<"))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    """Text of all kinds, among it much that is almost YAML."""
    try:
        parse_policy(text)
    except PolicyError as told:
        error = told
    else:
        return
    assert "<policy>" in str(error)


@given(
    st.sampled_from(["int", "float", "bool", "null", "str", "timestamp", "binary", "set", "map"]),
    st.text(max_size=6) | st.text(alphabet="0123456789.:-+_ebx", max_size=8),
)
@example("float", "")
@example("int", "9" * 5000)
def test_explicit_tags_are_a_policy_or_an_error(tag: str, value: str) -> None:
    """A tag that the text does not fit is an error like any other."""
    with suppress(PolicyError):
        parse_policy(f"version: !!{tag} {json.dumps(value)}")


@given(anything)
def test_yaml_and_mapping_agree(data: Any) -> None:
    """The same data is accepted or not, whichever way it comes in."""
    text = yaml.safe_dump(data, allow_unicode=True)
    mapping = yaml.safe_load(text)
    if not isinstance(mapping, dict) or any(not isinstance(key, str) for key in mapping):
        return
    try:
        policy: Policy | None = parse_policy(text)
    except PolicyError:
        policy = None
    assert (policy is None) == (load(mapping) is None)


@pytest.mark.parametrize("value", ["a", 3, None, [], {}])
def test_every_key_survives_every_shape(value: Any) -> None:
    """Each known key, at the top and in a rule, with values it does not expect."""
    for key in KEYS:
        load({key: value})
        load({"rules": [{"name": "a", key: value}]})
        load({"rules": [{"name": "a", "retry": {key: value}, "stream": {key: value}}]})

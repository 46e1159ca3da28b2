"""Globs that cover others, rules that match, and why they do not."""

from __future__ import annotations

import fnmatch
from typing import Any, get_args

from hypothesis import example, given
from hypothesis import strategies as st

from demur.policy import Policy, Rule
from demur.policy.globs import covers, is_literal
from demur.policy.lint import _catches
from demur.policy.schema import Match
from demur.vocabulary import Api

names = st.text(alphabet="abc-", max_size=5)
globs = st.text(alphabet="ab-*?[]!", min_size=1, max_size=5)
some_globs = st.lists(globs, min_size=1, max_size=2).map(tuple)
metadata = st.dictionaries(st.sampled_from("tu"), st.text(alphabet="ab", max_size=2))
apis = st.sampled_from(get_args(Api))
matches = st.builds(
    Match,
    model=st.none() | globs | some_globs,
    api=st.none() | apis | st.lists(apis, min_size=1).map(tuple),
    stream=st.none() | st.booleans(),
    metadata=st.dictionaries(st.sampled_from("tu"), st.text(alphabet="ab*", max_size=2)),
)
requests = st.fixed_dictionaries(
    {"model": names, "api": apis, "stream": st.booleans(), "metadata": metadata}
)


@st.composite
def narrowed(draw: st.DrawFn) -> tuple[str, str, str]:
    """A glob, one that is made from it, and a name made from that one."""
    wide = draw(globs)

    def fill(glob: str, alphabet: str) -> str:
        return "".join(
            draw(st.text(alphabet=alphabet, max_size=3)) if c in "*?" and draw(st.booleans()) else c
            for c in glob
        )

    narrow = fill(wide, "ab*?[]")
    return wide, narrow, fill(narrow, "ab").replace("*", "a").replace("?", "b")


@given(narrowed())
@example(("*b]c", "[ab]c", "ac"))
@example(("a?", "a*", "abc"))
@example(("*[", "[", "["))
@example(("[!b]", "*", "aa"))
def test_covering_is_sound(globs_and_name: tuple[str, str, str]) -> None:
    """Where a glob covers another, no name matches the narrow one alone."""
    wide, narrow, name = globs_and_name
    if covers(wide, narrow) and fnmatch.fnmatchcase(name, narrow):
        assert fnmatch.fnmatchcase(name, wide)


def test_covering_sees_the_simple_cases() -> None:
    """Equal globs, a star, a literal, a longer prefix and a longer suffix are seen."""
    pairs = [("a*", "a*"), ("*", "a?"), ("gpt-*", "gpt-4"), ("g*", "gpt-*"), ("*-mini", "a*-mini")]
    assert all(covers(wide, narrow) for wide, narrow in pairs)
    assert not any(covers(narrow, wide) for wide, narrow in pairs if wide != narrow)
    assert is_literal("gpt-4")
    assert not is_literal("gpt-[45]")


@given(wide=matches, narrow=matches, request=requests)
def test_a_rule_called_dead_never_matches_first(
    wide: Match, narrow: Match, request: dict[str, Any]
) -> None:
    """A request that only the later rule accepts disproves that the earlier catches all."""
    if narrow.accepts(**request) and not wide.accepts(**request):
        assert not _catches(wide, narrow)


def test_first_match_wins_and_none_is_none() -> None:
    """Rules are tried in order; a request that no rule matches has none."""
    first = Rule(name="first", match=Match(model="a*"))
    second = Rule(name="second", match=Match(model=("ab", "c"), metadata={"team": "s*"}))
    policy = Policy(rules=(first, second))

    def found(model: str, **metadata: Any) -> Rule | None:
        return policy.rule_for(model=model, api="chat", stream=False, metadata=metadata)

    assert found("ab", team="support") is first
    assert found("c", team="support") is second
    assert found("c", team="x") is None
    assert found("C", team="support") is None


def test_a_chain_resolves_names_targets_and_patches() -> None:
    """A fallback is a model, a target's name, or either with changes to the request."""
    policy = Policy.model_validate(
        {
            "targets": {"local": {"model": "llama", "base_url": "http://h/v1", "api_key_env": "K"}},
            "rules": [
                {
                    "name": "a",
                    "actions": ["retry"],
                    "retry": {"fallbacks": ["b", {"model": "local", "top_p": 1}]},
                }
            ],
        }
    )
    plain, elsewhere = policy.chain(policy.rules[0])
    assert (plain.name, plain.model, plain.base_url, plain.patch) == ("b", "b", None, {})
    assert (elsewhere.name, elsewhere.model) == ("local", "llama")
    assert (elsewhere.base_url, elsewhere.api_key_env) == ("http://h/v1", "K")
    assert elsewhere.patch == {"top_p": 1}

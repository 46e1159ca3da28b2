"""Reading policies: what a user writes, and what they are told when it is wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from demur.errors import DemurError, PolicyError
from demur.policy import (
    InvalidPolicyError,
    Policy,
    Problem,
    check_policy,
    load_policy,
    parse_policy,
)


def problems(text: str) -> list[Problem]:
    with pytest.raises(InvalidPolicyError) as caught:
        parse_policy(text, "p.yaml")
    return list(caught.value.problems)


def problem(text: str) -> Problem:
    (only,) = problems(text)
    return only


def test_a_file_and_a_mapping_give_the_same_policy(tmp_path: Path) -> None:
    """A policy may be a file, by name or path, or a mapping of the same shape."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "rules:\n"
        "  - name: a\n"
        "    match: {model: 'gpt-*'}\n"
        "    on: [refusal, partial]\n"
        "    actions: [tag, retry]\n"
        "    retry: {fallbacks: [b, {model: c, temperature: 0.2}]}\n"
    )
    mapping = {
        "rules": (
            {
                "name": "a",
                "match": {"model": "gpt-*"},
                "on": ("refusal", "partial"),
                "actions": ["tag", "retry"],
                "retry": {"fallbacks": ["b", {"model": "c", "temperature": 0.2}]},
            },
        )
    }
    policy = load_policy(file)
    assert policy == load_policy(str(file)) == load_policy(mapping)
    assert load_policy(policy) is policy
    assert policy.rules[0].on == ("refusal", "partial")
    assert [target.patch for target in policy.chain(policy.rules[0])] == [{}, {"temperature": 0.2}]


def test_the_smallest_policy_tags_and_logs() -> None:
    """What is left out has the default: tag and log everything, retry nothing."""
    policy = parse_policy("version: 1")
    assert policy == Policy()
    assert policy.rules[0].actions == ("tag", "log")
    assert policy.chain(policy.rules[0]) == ()


def test_words_and_dates_stay_text() -> None:
    """YAML 1.1 reads ``on`` as true, ``no`` as false and dates as dates; a policy does not."""
    policy = parse_policy(
        "targets: {1: {model: 2024-08-06}}\n"
        "rules: [{name: no, on: [partial], actions: [retry], retry: {fallbacks: ['1']}}]"
    )
    assert (policy.rules[0].name, policy.rules[0].on) == ("no", ("partial",))
    assert policy.chain(policy.rules[0])[0].model == "2024-08-06"


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("version: 1\nversion: 1", 2, "version", "given twice, first on line 1"),
        ("version: 2", 1, "version", "2 is not a version this demur reads; write version: 1"),
        ("version: true", 1, "version", "true is no version; write version: 1"),
        ("\nmodes: shadow", 2, "modes", "did you mean 'mode'?"),
        ("mode: shadowy", 1, "mode", "'shadowy' is not allowed here, only enforce, shadow"),
        ("rules: [{name: a, retries: 1}]", 1, "rules[0].retries", "did you mean 'retry'?"),
        ("rules:\n- name: a\n  fallbacks: [b]", 3, "rules[0].fallbacks", "it belongs to retry"),
        (
            "rules:\n- name: a\n  match: {actions: [tag]}",
            3,
            "rules[0].match.actions",
            "it belongs to rules[0]",
        ),
        ("rules:\n- match: {}", 2, "rules[0].name", "is missing"),
        ("rules:\n- name: a\n  on: [refused]", 3, "rules[0].on[0]", "did you mean 'refusal'?"),
        ("rules: [{name: a, on: refusal}]", 1, "rules[0].on", "write a list: [refusal]"),
        ("rules: [{name: a, match: {model: 3}}]", 1, "rules[0].match.model", "put it in quotes"),
        (
            "rules: [{name: a, match: {metadata: {x: false}}}]",
            1,
            "rules[0].match.metadata.x",
            "must be text, not false; put it in quotes",
        ),
        ("rules: [{name: a, match: {api: [x]}}]", 1, "rules[0].match.api[0]", "only chat, resp"),
        ("rules: [{name: a, match: {api: x}}]", 1, "rules[0].match.api", "'x' is not allowed"),
        ("rules: [{name: a, match: }]", 1, "rules[0].match", "is empty; give a mapping"),
        (
            "rules:\n- name: a\n  stream: {hold_back: {suspect_chars: 159}}",
            3,
            "rules[0].stream.hold_back",
            "suspect_chars: 159 is less than chars: 160; give 160 to hold every stream alike",
        ),
        ("rules: []", 1, "rules", "must not be empty"),
        ("rules: {name: a}", 1, "rules", "must be a list, not a mapping"),
        ("rules: [{name: ''}]", 1, "rules[0].name", "must not be empty"),
        ('rules: [{name: "a\\nb: c"}]', 1, "rules[0].name", "must not hold line breaks"),
        ("rules: [{name: a}, {name: a}]", 1, "rules", "rules[0] and rules[1] are both named 'a'"),
        ("rules: [{name: a, on: [partial, partial]}]", 1, "rules[0].on", "lists 'partial' twice"),
        ("rules: [{name: a, actions: [retry]}]", 1, "rules[0]", "needs a section retry:"),
        (
            "rules: [{name: a, actions: [error, retry], retry: {fallbacks: [b]}}]",
            1,
            "rules[0]",
            "exhausted: error",
        ),
        ("detector: {thresholds: {refusal: 1.5}}", 1, "detector.thresholds.refusal", "at most 1,"),
        ("detector: {seconds: .inf}", 1, "detector.seconds", "finite number"),
        ("detector: {seconds: true}", 1, "detector.seconds", "must be a number, not true"),
        ("detector: {seconds: 1e9}", 1, "detector.seconds", "must be at most 86400"),
        ("detector: {seconds: 86400.01}", 1, "detector.seconds", "most 86400, not 86400.01"),
        ("audit: {path: a, keep: 9.0}", 1, "audit.keep", "must be a whole number, not 9.0"),
        ("detector: {seconds: 0}", 1, "detector.seconds", "must be greater than 0, not 0"),
        ("targets: {a: {model: m, base_url: 'host/v1'}}", 1, "targets.a.base_url", "http://127"),
        ("targets: {a: {}}", 1, "targets.a.model", "is missing"),
        ("[]", 1, "", "a policy is a mapping such as version: 1, not a list"),
        ("just text", 1, "", "not 'just text'"),
        ("a: !!python/object:os.system {}", 1, "a", "the tag !!python"),
        ("mode: !!binary abc", 1, "mode", "the tag !!binary is not read"),
        ("mode: !secret abc", 1, "mode", "the tag !secret is not read"),
        ("? [a]\n: b", 1, "", "has a list or mapping as a key"),
        ("rules: [a\nmode: b", 2, "", "not valid YAML"),
        ("rules:\n\t- a", 2, "", "indent with spaces, not tabs"),
        ("version: 1\n---\nversion: 1", 2, "", "single document"),
        ("version: 1 # \x07", 1, "", "control character"),
        ("version: *none", 1, "", "undefined alias"),
        ("mode: &m {a: *m}", 1, "mode.a.a.a", "inside itself"),
        ("targets: {<<: {a: {model: b}}}", 1, "targets", "merge keys"),
        ('mode: "\\ud800"', 1, "mode", "surrogate"),
    ],
)
def test_an_error_says_where_and_what_to_write(text: str, line: int, key: str, said: str) -> None:
    """Each mistake is told once, with its line, its key and the remedy."""
    found = problem(text)
    assert (found.line, found.key) == (line, key)
    assert said in found.message
    assert str(found).startswith(f"p.yaml:{line}: ")


def test_all_errors_at_once_in_the_order_of_lines() -> None:
    """A user mends everything in one go: errors of data and of meaning come together."""
    text = "mode: x\nmode: shadow\nrules:\n  - name: a\n    on: [no]\n  - nam: b\naudit: {}\n"
    assert [(p.line, p.key) for p in problems(text)] == [
        (1, "mode"),
        (2, "mode"),
        (5, "rules[0].on[0]"),
        (6, "rules[1].nam"),
        (6, "rules[1].name"),
        (7, "audit"),
    ]
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p.yaml")
    assert str(caught.value).startswith("6 errors in p.yaml\n  p.yaml:1: mode: 'x' is not")


def test_a_long_list_of_errors_is_cut() -> None:
    """A file that is no policy at all does not flood the terminal."""
    with pytest.raises(InvalidPolicyError) as caught:
        parse_policy("\n".join(f"k{i}: 1" for i in range(100)), "p.yaml")
    assert len(caught.value.problems) == 100
    assert str(caught.value).count("\n") == 31
    assert str(caught.value).endswith("and 70 more")


@pytest.mark.parametrize(
    "fallbacks",
    [
        "[{modl: x}]",
        "[3]",
        "['']",
        "[[a]]",
        "[null]",
        "[{model: x, base_url: 'http://h/v1'}]",
        "[{model: x, api_key: k}]",
        "[{model: x, stream: true}]",
        "[{model: x, messages: []}]",
        "[{model: x, temperature: .inf}]",
    ],
)
def test_a_bad_fallback_is_one_error_at_its_place(fallbacks: str) -> None:
    """A fallback is a name or a patch; a mistake is told for the shape that was meant, once."""
    text = f"rules: [{{name: a, actions: [retry], retry: {{fallbacks: {fallbacks}}}}}]"
    assert problem(text).key.startswith("rules[0].retry.fallbacks[0]")


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnop1234",
        "gsk_abcdefghijklmnop1234",
        "hf_ABCDEFGHIJKLMNOPQRSTUVWX",
        "AIzaSyD4abcdefghijklmnop",
        "Abcdefghij1234567890abcdef",
        "Bearer abc",
    ],
)
def test_a_literal_key_is_refused_and_never_repeated(secret: str) -> None:
    """A key in the file is an error that tells to use a variable and does not print the key."""
    for text in (
        f"targets: {{a: {{model: m, api_key_env: {secret}}}}}",
        f"targets: {{a: {{model: m, api_key: {secret}}}}}",
        "rules: [{name: a, actions: [retry], retry: {fallbacks: [{model: m, extra_headers: "
        f"{{X-Api-Key: {secret}}}}}]}}}}]",
    ):
        found = problem(text)
        assert "variable" in found.message or "api_key_env" in found.message
        assert secret not in str(found)
    for url in (f"https://u:{secret}@h/v1", f"https://h/v1?k={secret}", f"h?{secret}"):
        assert secret not in str(problem(f"targets: {{a: {{model: m, base_url: '{url}'}}}}"))


@pytest.mark.parametrize("name", ["LOCAL_KEY", "OPENAI_API_KEY", "_k", "key2", "HF_TOKEN"])
def test_names_of_variables_are_taken(name: str) -> None:
    """Ordinary names of environment variables pass."""
    policy = parse_policy(f"targets: {{a: {{model: m, api_key_env: {name}}}}}")
    assert policy.targets["a"].api_key_env == name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the policy is empty"),
        (b"# nothing\n", "the policy is empty"),
        (b"version: 1\nmode: caf\xe9\n", "p.yaml:2: is not UTF-8"),
        ("version: 1\n".encode("utf-16"), "is not UTF-8"),
        (b"#" * 300_000, "is larger than 256 KiB"),
        (b"[" * 5_000, "nested too deeply"),
        (b"\x00", "control character"),
    ],
)
def test_files_that_are_no_policy(tmp_path: Path, content: bytes, said: str) -> None:
    """Empty, binary, huge and wrongly encoded files have their own message."""
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_policy(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    file = tmp_path / "p.yaml"
    file.write_bytes(b"\xef\xbb\xbfmode: shadow\r\n")
    assert load_policy(file).mode == "shadow"


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory, a text and other objects say what they are."""
    cases: list[tuple[Any, str]] = [
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "file" / "below", "cannot be read: Not a directory"),
        ("version: 1\n", "parse_policy"),
        ("a\0b", "cannot be read"),
        ("~nobody-of-that-name/p.yaml", "cannot be read"),
        (3, "must be a path, a mapping or a Policy, not int"),
        (b"p.yaml", "not bytes"),
        (["rules"], "not list"),
        (None, "not NoneType"),
    ]
    (tmp_path / "file").touch()
    for source, said in cases:
        with pytest.raises(PolicyError) as caught:
            load_policy(source)
        assert said in str(caught.value), source


def test_an_alias_bomb_is_stopped_early() -> None:
    """Aliases of aliases of aliases cost a bounded amount of work."""
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
    bomb = "\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x]", *levels])
    assert "more than 20000 parts" in problem(bomb).message


def test_aliases_share_sections() -> None:
    """An alias stands for the whole section, and errors in it point to where it is written."""
    policy = parse_policy(
        "rules:\n"
        "  - {name: a, match: {model: m}, actions: [retry], retry: &chain {fallbacks: [b]}}\n"
        "  - {name: b, actions: [retry], retry: *chain}\n"
    )
    assert policy.rules[0].retry == policy.rules[1].retry
    wrong = problems("rules:\n  - {name: a, match: &m {modl: x}}\n  - name: b\n    match: *m\n")
    assert [(p.line, p.key) for p in wrong] == [
        (2, "rules[0].match.modl"),
        (2, "rules[1].match.modl"),
    ]


def test_mappings_have_keys_for_places_but_no_lines() -> None:
    """Errors in a mapping name the key; odd keys, objects and cycles are errors too."""
    cycle: dict[str, Any] = {}
    cycle["mode"] = cycle
    for mapping, said in [
        ({"mode": "x"}, "policy: mode: 'x' is not allowed"),
        ({1: 2}, "policy: keys are text, not int"),
        ({"mode": object()}, "policy: mode: an object of type object is no plain data"),
        ({"audit": {"path": Path("a")}}, "policy: audit.path: an object of type"),
        (cycle, "inside itself"),
    ]:
        with pytest.raises(PolicyError) as caught:
            load_policy(mapping)  # type: ignore[arg-type]
        assert said in str(caught.value)


def test_loading_logs_warnings_and_checking_returns_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is suspicious is logged with its line, and never keeps a policy from loading."""
    file = tmp_path / "p.yaml"
    file.write_text("rules:\n  - name: a\n  - name: b\n")
    with caplog.at_level(logging.WARNING, "demur.policy"):
        policy = load_policy(file)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{file}:3: rules[1]: can never match")
    caplog.clear()
    checked, (warning,) = check_policy(file)
    assert checked == policy
    assert (warning.line, warning.key) == (3, "rules[1]")
    assert not caplog.records


def test_a_policy_error_is_a_demur_error() -> None:
    """Whoever catches demur's errors catches these."""
    assert issubclass(InvalidPolicyError, DemurError)


@pytest.mark.parametrize("key", ["model", "api"])
def test_a_match_of_nothing_is_refused(key: str) -> None:
    """An empty list would match no request at all."""
    found = problem(f"rules:\n- {{name: a, match: {{{key}: []}}}}")
    assert (found.key, found.line) == (f"rules[0].match.{key}", 2)
    assert "at least one" in found.message


@pytest.mark.parametrize(
    ("text", "cost"),
    [("1e-3", 0.001), ("1E+3", 1000.0), ("0160", 160), ("0o20", 16), ("0x1F", 31), (".5", 0.5)],
)
def test_numbers_are_those_of_yaml_1_2(text: str, cost: float) -> None:
    """Exponents need no point, and a leading 0 makes no octal number."""
    policy = parse_policy(f"budgets: [{{cost: {text}}}]")
    assert policy.budgets[0].cost == cost


@pytest.mark.parametrize("text", ["1_000", "1:30", "0b11", "1e", "+"])
def test_other_numbers_are_text(text: str) -> None:
    """What only YAML 1.1 calls a number is text."""
    assert "must be a number" in problem(f"budgets: [{{cost: {text}}}]").message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rules: !!foo [{name: a}]", "rules"),
        ("rules: [!x {name: a}]", "rules[0]"),
        ("rules: !!set {a: }", "rules"),
        ("!!omap [version: 1]", ""),
    ],
)
def test_a_tag_of_a_collection_is_refused(text: str, key: str) -> None:
    """A tag that would mean something else than a plain list or mapping is not passed over."""
    found = problems(text)
    assert found[0].key == key
    assert "the tag " in found[0].message


def test_plain_tags_are_read() -> None:
    """Tags that say what stands there anyway change nothing."""
    assert parse_policy("!!map {rules: !!seq [!!map {name: !!str a}]}").rules[0].name == "a"


def test_a_key_of_several_lines_is_told_on_one() -> None:
    """Control characters in a key are escaped."""
    found = problem('version: 1\n"a\\nb\\e[1m": 2')
    assert len(str(found).splitlines()) == 1
    assert found.key == '["a\\nb\\x1b[1m"]'

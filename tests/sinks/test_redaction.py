"""What a redacted passage shows, and what it never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("detect_secrets")

from demur.sinks.redaction import Redactor

TOKEN = "ghp_" + "aB" * 18


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password = 'horse' and secret='battery'", "password = '█' and secret='█'"),
        ("api_key='horsebattery' api_key='staple'", "api_key='█' api_key='█'"),
        ("api_key = 'abcdefghijklmnop' api_key = 'qrstuv'", "api_key = '█' api_key = '█'"),
        ("password: 'horse'. I can't use horse.", "password: '█'. I can't use █."),
        ("if 'horse' == password:\nelse 'battery' == secret", "if '█' == password:\nelse '█' ="),
        (f"The secret is {TOKEN}, and {TOKEN.lower()}.", "The secret is █, and █."),
        (f"secret='{TOKEN} horse battery'", "secret='█'"),
        ("postgres://joe:horse-battery@host/db, horse-battery", "postgres█host/db, █"),
        ("The key is AKIAABCDEFGHIJKLMNOP.", "The key is █."),
        ("I'm sorry, I can't keep a secret.", "I'm sorry, I can't keep a secret."),
    ],
)
def test_every_secret_is_masked(text: str, shown: str) -> None:
    """However many are on a line, whatever they are made of, and wherever they are said again."""
    assert Redactor()(text).startswith(shown)


def test_plugins_are_known() -> None:
    """Those of detect-secrets that are more than patterns, and so are not simply searched for."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins: Any = get_mapping_from_secret_type_to_class().values()
    others = {plugin.__name__ for plugin in plugins if not hasattr(plugin, "denylist")}
    assert others == {"Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector"}


def test_many_redactors_at_once(
    racing: Callable[[int, Callable[[], object]], None],
) -> None:
    """Each sink has its own, on its own thread: none takes anything from another."""
    text = f"I'm sorry, I can't. password = 'horse' secret='battery' {TOKEN}"
    shown = "I'm sorry, I can't. password = '█' secret='█' █"

    def run() -> None:
        redact = Redactor()
        assert {redact(text) for _ in range(100)} == {shown}

    racing(3, run)

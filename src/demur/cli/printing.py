"""Data as it may stand in a terminal's tables: no markup, no control characters."""

from __future__ import annotations

from rich.text import Text


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def shown(text: str) -> Text:
    """As it is: brackets in it are no markup."""
    return Text(printable(text))

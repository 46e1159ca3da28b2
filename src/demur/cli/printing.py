"""Data as it may stand in a terminal's tables: no markup, no control characters."""

from __future__ import annotations

from rich.text import Text


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def shown(text: str) -> Text:
    """As it is and whole: brackets in it are no markup, and what is too wide goes on below."""
    return Text(printable(text), overflow="fold")

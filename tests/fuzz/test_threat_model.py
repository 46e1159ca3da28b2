"""The threat model's tests exist: a name that was changed there or here is found."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "threat-model.md"


def test_every_named_test_exists() -> None:
    """Each file that the document names, and each test in it."""
    named: list[tuple[str, str]] = []
    for line in DOCUMENT.read_text().splitlines():
        path = ""
        for quoted in re.findall(r"`([^`]*(?:\.py|::test_)[^`]*)`", line):
            file, _, test = quoted.partition("::")
            path = file or path
            named.append((path, test))
    assert len(named) > 25
    for path, test in named:
        code = (TESTS / path).read_text()
        assert not test or f"def {test}(" in code, (path, test)

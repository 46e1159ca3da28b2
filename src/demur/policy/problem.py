"""What is wrong with a policy, or suspicious in it, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import PolicyError

Path = tuple[str | int, ...]
"""Where something stands in a policy: ``("rules", 0, "match", "model")``."""

_MOST_TOLD = 30


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning. ``line`` counts from 1; ``None`` where there is no file."""

    source: str
    path: Path
    message: str
    line: int | None = None

    @property
    def key(self) -> str:
        """The path as one writes it: ``rules[0].match.model``; empty for the whole policy."""
        return dotted(self.path)

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return _line(": ".join(part for part in (where, self.key, self.message) if part))


class InvalidPolicyError(PolicyError):
    """A policy with errors, all of them at once in ``problems``, in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line or 0, p.key)))
        lines = [str(problem) for problem in self.problems[:_MOST_TOLD]]
        if len(self.problems) > 1:
            lines.insert(0, f"{len(self.problems)} errors in {self.problems[0].source}")
        if len(self.problems) > _MOST_TOLD:
            lines.append(f"and {len(self.problems) - _MOST_TOLD} more")
        super().__init__("\n  ".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


def dotted(path: Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{_line(part[:60])}"]'
    return text


def _line(text: str) -> str:
    """The text on one line: control characters and line breaks escaped."""
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\u2028\u2029]",
        lambda found: found[0].encode("unicode_escape").decode(),
        text,
    )

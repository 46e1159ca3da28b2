"""The tags around reasoning that a model writes into its text.

Whole responses and streams look for the same ones: any of the names, in any case; a block ends with
the name that it began with.
"""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = ("think", "thinking", "reasoning")
# ASCII only: elsewhere letters fold to others, and to more than one.
_FLAGS: Final = re.IGNORECASE | re.ASCII

OPENING: Final = re.compile(f"<({'|'.join(_NAMES)})>", _FLAGS)
UNFINISHED: Final = re.compile(
    "(?:" + "|".join(f"<{name}"[:end] for name in _NAMES for end in range(len(name) + 2)) + r")\Z",
    _FLAGS,
)
"""The end of a text that may yet become an opening tag; an empty one too."""

_CLOSING: Final = {name: re.compile(f"</{name}>", _FLAGS) for name in _NAMES}
LONGEST: Final = max(len(f"</{name}>") for name in _NAMES)
"""Characters of the longest closing tag."""


def closing(opening: re.Match[str]) -> re.Pattern[str]:
    """The tag that ends the block which ``opening`` began."""
    return _CLOSING[opening[1].lower()]

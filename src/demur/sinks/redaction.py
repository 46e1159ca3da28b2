"""A response's telling passage, with what must not be kept masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..errors import MissingExtraError

SPAN_CHARS: Final = 240
MASK: Final = "\u2588"

# What refusals are made of. It only picks the passage that is shown; it judges nothing.
_CUE = re.compile(
    r"\b(?:sorry|apologi[sz]e|can(?:no|['\u2019])t|unable|not able|won['\u2019]t|will not|"
    r"decline|refuse|against my|as an ai|not comfortable|not appropriate)\b",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"']+@[^\s@<>()\[\],;:\"']+")
_NUMBER = re.compile(r"\d(?:[\d.,:/ \-]*\d)?")
# Whatever a library does not know: long words of mixed letters and digits are no prose.
_TOKEN = re.compile(r"(?=[\w+/=.\-]*\d)(?=[\w+/=.\-]*[A-Za-z])[\w+/=.\-]{12,}")


class Redactor:
    """Secrets are found by detect-secrets' patterns, then e-mail addresses and numbers are masked.

    ``MissingExtraError`` where detect-secrets is not installed.
    """

    def __init__(self) -> None:
        try:
            from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
            from detect_secrets.plugins.keyword import QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP
        except ImportError as error:
            raise MissingExtraError(
                "detect-secrets", "redaction", "audit.content: redacted"
            ) from error
        # Its patterns alone: its scan has settings of the whole process, finds one of several
        # secrets on a line, and of some no more than the prefix. Plugins without patterns are
        # meant for code: in prose they take every word for a secret.
        plugins: Any = get_mapping_from_secret_type_to_class().values()
        found = [pattern for plugin in plugins for pattern in getattr(plugin, "denylist", ())]
        assigned = QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP.items()
        self._patterns: list[tuple[re.Pattern[str], Sequence[int]]] = [
            *((pattern, range(pattern.groups + 1)) for pattern in found),
            *((pattern, (group,)) for pattern, group in assigned),
        ]

    def __call__(self, text: str) -> str:
        """At most ``SPAN_CHARS`` characters around the first sign of a refusal, masked."""
        # Masked before it is cut: half a secret is not recognised as one.
        near = _around(text, 4 * SPAN_CHARS)
        return _around(self._masked(near), SPAN_CHARS)

    def _masked(self, text: str) -> str:
        for secret in sorted(set(self._secrets(text)), key=len, reverse=True):
            text = text.replace(secret, MASK)
        for pattern in (_EMAIL, _TOKEN, _NUMBER):
            text = pattern.sub(MASK, text)
        return text

    def _secrets(self, text: str) -> Iterator[str]:
        for line in text.splitlines():
            for pattern, groups in self._patterns:
                for match in pattern.finditer(line):
                    yield from (match[group] for group in groups if match[group])


def _around(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    cue = _CUE.search(text)
    start = 0 if cue is None else max(0, min(cue.start() - chars // 3, len(text) - chars))
    before = "\u2026" if start else ""
    after = "\u2026" if start + chars < len(text) else ""
    return f"{before}{text[start : start + chars]}{after}"

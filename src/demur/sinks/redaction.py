"""A response's telling passage, with what must not be kept masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

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
# Meant for whole files of code: in prose they take every word for a secret.
_NOT_FOR_PROSE = frozenset({"Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector"})


class Redactor:
    """Secrets are found by detect-secrets, then e-mail addresses and numbers are masked.

    ``MissingExtraError`` where detect-secrets is not installed.
    """

    def __init__(self) -> None:
        try:
            from detect_secrets.core.scan import scan_line
            from detect_secrets.settings import default_settings, get_settings, transient_settings
        except ImportError as error:
            raise MissingExtraError(
                "detect-secrets", "redaction", "audit.content: redacted"
            ) from error
        with default_settings():
            names = sorted(set(get_settings().plugins) - _NOT_FOR_PROSE)
        self._settings = {"plugins_used": [{"name": name} for name in names]}
        self._with_settings = transient_settings
        self._scan = scan_line

    def __call__(self, text: str) -> str:
        """At most ``SPAN_CHARS`` characters around the first sign of a refusal, masked."""
        # Masked before it is cut: half a secret is not recognised as one.
        near = _around(text, 4 * SPAN_CHARS)
        return _around(self._masked(near), SPAN_CHARS)

    def _masked(self, text: str) -> str:
        for secret in sorted(self._secrets(text), key=len, reverse=True):
            text = text.replace(secret, MASK)
        for pattern in (_EMAIL, _TOKEN, _NUMBER):
            text = pattern.sub(MASK, text)
        return text

    def _secrets(self, text: str) -> Iterator[str]:
        with self._with_settings(self._settings):
            for line in text.splitlines():
                for found in self._scan(line):
                    if found.secret_value:
                        yield found.secret_value


def _around(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    cue = _CUE.search(text)
    start = 0 if cue is None else max(0, min(cue.start() - chars // 3, len(text) - chars))
    before = "\u2026" if start else ""
    after = "\u2026" if start + chars < len(text) else ""
    return f"{before}{text[start : start + chars]}{after}"

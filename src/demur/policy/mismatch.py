"""Why a rule does not match a request, in words."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from ..vocabulary import Api
from .schema import Match, as_tuple


def mismatch(
    match: Match, *, model: str, api: Api, stream: bool, metadata: Mapping[str, Any]
) -> str | None:
    """The first condition that does not hold; ``None`` exactly where ``match`` accepts."""
    globs = () if match.model is None else as_tuple(match.model)
    if globs and not any(fnmatch.fnmatchcase(model, glob) for glob in globs):
        return f"the model is not {_or(globs)}"
    if match.api is not None and api not in as_tuple(match.api):
        return f"the API is not {_or(as_tuple(match.api))}"
    if match.stream is not None and stream is not match.stream:
        return "it is streamed" if stream else "it is not streamed"
    for key, glob in match.metadata.items():
        if key not in metadata:
            return f"it has no metadata {key}"
        if not fnmatch.fnmatchcase(str(metadata[key]), glob):
            return f"its metadata {key} is not {glob}"
    return None


def _or(choices: tuple[str, ...]) -> str:
    return " or ".join(choices)

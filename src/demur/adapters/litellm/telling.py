"""The verdict at the end of a stream, where the policy asks for it: what its headers cannot tell.

Headers go out with the first item; a stream is judged as a whole only once it has ended.
"""

from __future__ import annotations

import json
from typing import Any

from litellm.types.utils import ModelResponseStream

from ...vocabulary import Outcome
from .exchange import Exchange
from .headers import headers_of
from .surfaces import CHAT


def told_at_end(found: Exchange, last: Any) -> Any:
    """The item that follows ``last``, the caller's last one; ``None`` if there is to be none.

    A chunk of its own exists on chat only: on the other surfaces, whose events are laid down, a
    comment takes its place, which every reader of server-sent events passes over.
    """
    rule, outcome = found.plan.rule, found.outcome
    if rule.stream.tell is None or not found.plan.tags or outcome is None:
        return None
    if rule.stream.tell == "chunk" and found.surface is CHAT:
        return ModelResponseStream(
            id=getattr(last, "id", None),
            created=getattr(last, "created", None),
            model=getattr(last, "model", None),
            choices=[],
            provider_specific_fields={"demur": _facts(outcome)},
        )
    return f": demur {json.dumps(_facts(outcome))}\n\n".encode()


def _facts(outcome: Outcome) -> dict[str, str]:
    """What the headers of a whole response say."""
    return {name.removeprefix("x-demur-"): value for name, value in headers_of(outcome).items()}

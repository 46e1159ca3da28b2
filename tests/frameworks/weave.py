"""weave: it patches the SDK's resources, and gives what it traces to a server of ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from weave.integrations.patch import patch_openai
from weave.trace import weave_client
from weave.trace.context import weave_client_context

from . import calls

PACKAGE = "weave"
CASES = calls.CASES


class Kept:
    """What a trace server is asked as calls are traced, in its own words; the calls are kept."""

    call_processor = feedback_processor = None

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def get_call_processor(self) -> None:
        return None

    def get_feedback_processor(self) -> None:
        return None

    def file_create(self, request: Any) -> Any:
        return SimpleNamespace(digest="unused")

    def obj_create(self, request: Any) -> Any:
        return SimpleNamespace(digest="unused", object_id="unused")

    def call_start(self, request: Any) -> Any:
        self.calls.append(request)
        return SimpleNamespace(id="unused", trace_id="unused")

    def call_end(self, request: Any) -> None:
        self.calls.append(request)


_server = Kept()
_weave = weave_client.WeaveClient("unused", "unused", _server, ensure_project_exists=False)
weave_client_context.set_weave_client_global(_weave)
patch_openai()


def records() -> list[Any]:
    _weave.flush()
    kept, _server.calls = _server.calls, []
    return kept

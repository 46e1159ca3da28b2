"""weave: it patches the SDK's resources, and gives what it traces to a server of ours."""

from __future__ import annotations

from typing import Any

from weave.integrations.patch import patch_openai
from weave.trace import weave_client
from weave.trace.context import weave_client_context

from . import calls

PACKAGE = "weave"
CASES = calls.CASES


class Kept:
    """A trace server that keeps the calls and says yes to all else."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def asked(*args: Any) -> Any:
            print("ASKED", name, str(args)[:3000])
            return None

        return asked


_server = Kept()
_weave = weave_client.WeaveClient("unused", "unused", _server, ensure_project_exists=False)
weave_client_context.set_weave_client_global(_weave)
patch_openai()


def records() -> list[Any]:
    _weave.flush()
    kept, _server.calls = _server.calls, []
    return kept

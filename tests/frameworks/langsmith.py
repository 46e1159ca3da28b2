"""LangSmith: its wrapper around a client, with runs kept in memory."""

from __future__ import annotations

import os
from typing import Any

os.environ["LANGSMITH_TRACING"] = "true"

import langsmith
from langsmith.wrappers import wrap_openai

from . import calls

PACKAGE = "langsmith"
CASES = calls.CASES
KNOWN = [calls.COPIES]


class Kept(langsmith.Client):
    def create_run(self, *args: Any, **fields: Any) -> None:
        _runs.append({"args": args, **fields})

    def update_run(self, *args: Any, **fields: Any) -> None:
        _runs.append({"ended": args, **fields})


_runs: list[Any] = []
_langsmith = Kept("http://127.0.0.1:9", api_key="unused", info={}, auto_batch_tracing=False)


def instrument(client: Any) -> Any:
    return wrap_openai(client, tracing_extra={"client": _langsmith})


def records() -> list[Any]:
    kept, _runs[:] = list(_runs), []
    return kept

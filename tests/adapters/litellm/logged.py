"""What LiteLLM's SDK logs."""

from __future__ import annotations

import asyncio
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

Row = tuple[str, str, list[str]]


class Records(CustomLogger):  # type: ignore[misc, unused-ignore]
    """Rows of status, model, tags, of blocking calls and others; ``tokens`` of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.tokens: list[int] = []

    async def wait_for(self, count: int) -> list[Row]:
        """LiteLLM logs behind the response."""
        for _ in range(100):
            if len(self.rows) >= count:
                break
            await asyncio.sleep(0.02)
        return self.rows

    def _note(self, status: str, kwargs: dict[str, Any]) -> None:
        row = kwargs["standard_logging_object"]
        self.rows.append((status, row["model"].removeprefix("openai/"), row["request_tags"]))
        self.tokens.append(row["total_tokens"])

    def log_success_event(self, kwargs: Any, *_: Any, **__: Any) -> None:
        self._note("success", kwargs)

    def log_failure_event(self, kwargs: Any, *_: Any, **__: Any) -> None:
        self._note("failure", kwargs)

    async def async_log_success_event(self, kwargs: Any, *_: Any, **__: Any) -> None:
        self._note("success", kwargs)

    async def async_log_failure_event(self, kwargs: Any, *_: Any, **__: Any) -> None:
        self._note("failure", kwargs)

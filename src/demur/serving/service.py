"""A detector behind HTTP, as one replica has it: routes, health, numbers. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from ..detection import Detector
from ..detection.awaiting import classify_off_loop
from ..detection.building import build_detector
from ..detection.labels import ANSWER, REFUSAL
from ..errors import DetectorError
from ..policy.schema import DetectorSettings
from ..vocabulary import Evidence, Verdict
from .protocols import (
    UnusableError,
    body_of,
    kserve_answer,
    kserve_metadata,
    kserve_texts,
    tei_answer,
    tei_texts,
)

_HEALTH: Final = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})

Answer = tuple[int, Any]
"""A status, and what goes out as JSON."""

_log = logging.getLogger("demur")


class Counts(Protocol):
    """Where numbers go."""

    def judged(self, verdicts: Sequence[Verdict], seconds: float) -> None: ...

    def failed(self) -> None: ...


class Service:
    """Answers requests; many at a time, on one event loop, their texts judged together."""

    def __init__(self, settings: DetectorSettings, name: str, counts: Counts) -> None:
        self._detector: Detector = build_detector(settings)
        self._name = name
        self._counts = counts
        self._done = self._seen = 0

    async def answer(self, method: str, path: str, data: bytes) -> Answer:
        """The status and the body of the answer; never raises for what a client sent."""
        try:
            return await self._answer(method, path.rstrip("/"), data)
        except UnusableError as error:
            return error.status, {"error": str(error), "error_type": "validation"}
        except DetectorError as error:
            self._counts.failed()
            return 503, {"error": str(error), "error_type": "overloaded"}

    async def check(self) -> None:
        """Raises ``DetectorError`` where two known sentences are not told apart.

        A replica that is too busy for them, but judged others since it was asked last, is well.
        """
        seen, self._seen = self._seen, self._done
        try:
            refusal, answer = await self._judged([REFUSAL, ANSWER])
        except DetectorError:
            if self._done > seen:
                return
            raise
        if not answer.score < refusal.score:
            raise DetectorError("the detector does not tell a refusal from an answer")

    async def _answer(self, method: str, path: str, data: bytes) -> Answer:
        model = f"/v2/models/{self._name}"
        if method in ("GET", "HEAD"):
            if path in _HEALTH or path == f"{model}/ready":
                return 200, {"status": "ok", "live": True, "ready": True}
            if path == model:
                return 200, kserve_metadata(self._name)
        elif method == "POST" and path in ("", "/predict"):
            texts, many = tei_texts(body_of(data))
            return 200, tei_answer(await self._counted(texts), many=many)
        elif method == "POST" and path == f"{model}/infer":
            texts = kserve_texts(body_of(data))
            return 200, kserve_answer(self._name, await self._counted(texts))
        raise UnusableError(f"there are POST /predict, POST {model}/infer and GET /health", 404)

    async def _counted(self, texts: list[str]) -> list[Verdict]:
        start = time.perf_counter()
        verdicts = await self._judged(texts)
        self._done += len(verdicts)
        self._counts.judged(verdicts, time.perf_counter() - start)
        return verdicts

    async def _judged(self, texts: list[str]) -> list[Verdict]:
        """All verdicts; where one fails all do, since a client is told of them together."""
        tasks = []
        for text in texts:
            tasks.append(asyncio.create_task(self._verdict(text)))
            await asyncio.sleep(0)  # a long list keeps no other request waiting
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _verdict(self, text: str) -> Verdict:
        return await classify_off_loop(self._detector, Evidence(text))

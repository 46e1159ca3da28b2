"""The service as a Ray Serve application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..detection.building import on_threads
from ..errors import MissingExtraError
from ..policy.schema import DetectorSettings
from ..vocabulary import LABELS, Verdict
from .settings import ServeSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

HEALTH_SECONDS: Final = 10.0
"""Between two looks at a replica's health, and for one of them."""
MOST_WAITING: Final = 8
"""Requests that may wait on a replica, for each that it should have in flight."""


def application(settings: ServeSettings) -> Any:
    """The bound deployment. Raises ``MissingExtraError`` without Ray Serve."""
    serve = imported()
    options: dict[str, Any] = {
        "name": settings.name,
        "ray_actor_options": {"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        "max_ongoing_requests": settings.in_flight * MOST_WAITING,
        "health_check_period_s": HEALTH_SECONDS,
        "health_check_timeout_s": HEALTH_SECONDS,
    }
    if settings.most_replicas is None:
        options["num_replicas"] = settings.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": settings.replicas,
            "max_replicas": settings.most_replicas,
            "target_ongoing_requests": settings.in_flight,
        }
    detector = on_threads(settings.detector(), max(1, round(settings.cpus))).model_dump(mode="json")
    return serve.deployment(Replica).options(**options).bind(detector, settings.name)


def imported() -> Any:
    """``ray.serve``."""
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "serve", "demur serve") from error
    return serve


class Replica:
    """One process of the deployment."""

    def __init__(self, detector: dict[str, Any], name: str) -> None:
        from .service import Service

        settings = DetectorSettings.model_validate(detector)
        self._service = Service(settings, name, RayCounts())

    async def __call__(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        path = request.scope["path"]
        status, body = await self._service.answer(request.method, path, await request.body())
        return JSONResponse(body, status)

    async def check_health(self) -> None:
        """Asked by Serve; a replica that raises is replaced."""
        await self._service.check()


class RayCounts:
    """Numbers on the metrics page of every Ray node, with the replica's own tags."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        self._texts = Counter("demur_served_texts", "Texts judged.", ("label",))
        self._failures = Counter("demur_served_failures", "Requests without a verdict.")
        self._seconds = Histogram(
            "demur_served_seconds",
            "Seconds a request took within its replica.",
            [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5],
        )

    def judged(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        for label in LABELS:
            if count := sum(verdict.label == label for verdict in verdicts):
                self._texts.inc(count, {"label": label})
        self._seconds.observe(seconds)

    def failed(self) -> None:
        self._failures.inc()

"""From a policy's settings to the detector they describe."""

from __future__ import annotations

from collections.abc import Iterator

from ..policy.schema import DetectorSettings, Stage, TransformerSettings
from . import Detector
from .cascade import Cascade
from .embedded import EmbeddedDetector
from .guarded import Guarded
from .signals import SignalsDetector


def build_detector(settings: DetectorSettings | None = None) -> Cascade:
    """The settings' stages, each guarded, as one detector.

    A transformer is loaded and tested here, not at the first request; a remote one at the first,
    since its server may start later. Raises ``ModelError`` where that fails, ``MissingExtraError``
    where its packages are not installed, ``PolicyError`` where its key is not in the environment.
    """
    settings = settings or DetectorSettings()
    stages = [Guarded(stage, settings.seconds) for stage in _stages(settings)]
    sure = settings.sure
    return Cascade(stages) if sure is None else Cascade(stages, (sure.normal, sure.refusal))


def _stages(settings: DetectorSettings) -> Iterator[Detector]:
    for place, stage in enumerate(settings.stages):
        detector = _stage(stage, settings)
        readers_after = set(settings.stages[place + 1 :]) - {SignalsDetector.name}
        if readers_after and isinstance(detector, EmbeddedDetector):
            detector = detector.before_another()
        yield detector


def _stage(stage: Stage, settings: DetectorSettings) -> Detector:
    threshold = settings.thresholds.refusal
    if stage == "signals":
        return SignalsDetector()
    if stage == "embedded":
        return EmbeddedDetector.load(threshold=threshold)
    if stage == "remote":
        from .remote import RemoteDetector

        assert settings.remote is not None
        return RemoteDetector(settings.remote, threshold, settings.seconds)
    from .transformer import TransformerDetector

    chosen = settings.transformer or TransformerSettings()
    return TransformerDetector(chosen, threshold, settings.seconds)


def on_threads(settings: DetectorSettings, threads: int) -> DetectorSettings:
    """The same, for a process that shares its machine: passes use so many threads, by default."""
    chosen = settings.transformer or TransformerSettings()
    if "transformer" not in settings.stages or chosen.backend != "onnx" or chosen.threads:
        return settings
    shared = chosen.model_copy(update={"threads": threads})
    return settings.model_copy(update={"transformer": shared})

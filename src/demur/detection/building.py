"""From a policy's settings to the detector they describe."""

from __future__ import annotations

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
    where its packages are not installed.
    """
    settings = settings or DetectorSettings()
    return Cascade([Guarded(_stage(s, settings), settings.seconds) for s in settings.stages])


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

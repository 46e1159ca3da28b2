"""Hugging Face sequence classifiers as detectors, on torch or ONNX Runtime.

Reference: ProtectAI/distilroberta-base-rejection-v1, judged as its card does: softmax over the
labels (the sigmoid of a multi-label model), 512 tokens at once. Neither runtime is imported before
a detector is made.
"""

from __future__ import annotations

from ..errors import ModelError
from ..policy.schema import TransformerSettings
from .labels import refusal_label_of, self_test
from .onnx import OnnxModel
from .reading import THRESHOLD, ReadingDetector, batcher
from .torch_model import TorchModel

STAGE = "transformer"


class TransformerDetector(ReadingDetector):
    """Any text classifier that names one of its labels a refusal.

    ``label`` is that label; ``threshold`` is 0.5 where none is given. Texts longer than the model's
    window are judged by its windows (``settings.windows``: head and tail, or all); the greatest
    score counts. ``patience`` is the longest wait, in seconds, that is worth queueing for.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        threshold: float | None = None,
        patience: float | None = None,
    ) -> None:
        threshold = THRESHOLD if threshold is None else threshold
        model = _model(settings)
        self.label = refusal_label_of(settings.model, model.labels, settings.refusal_label)
        model.index = next(i for i, label in model.labels.items() if str(label) == self.label)
        self_test(settings.model, self.label, threshold, model.scores)
        super().__init__(
            STAGE, model, threshold, batcher(STAGE, model.scores, settings.batching, patience)
        )

    @classmethod
    def load(cls, model: str, threshold: float | None = None) -> TransformerDetector:
        """The model in a folder or of a hub id, with default settings."""
        return cls(TransformerSettings(model=str(model)), threshold)


def _model(settings: TransformerSettings) -> TorchModel | OnnxModel:
    size = settings.batching.size
    if settings.backend == "onnx" and settings.precision != "bfloat16":
        return OnnxModel(
            settings.model,
            precision=settings.precision,
            windows=settings.windows,
            size=size,
            threads=settings.threads,
        )
    if settings.backend == "torch" and settings.precision != "int8":
        return TorchModel(
            settings.model,
            revision=settings.revision,
            device=settings.device,
            precision=settings.precision,
            windows=settings.windows,
            size=size,
        )
    raise ModelError(f"backend {settings.backend} does not compute in {settings.precision}")

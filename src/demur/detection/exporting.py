"""Writing a Hugging Face classifier as an ONNX folder, and checking that it still agrees.

Needs torch, transformers, onnx and onnxscript; what is written needs ONNX Runtime alone.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import DemurError, MissingExtraError, ModelError
from .labels import ANSWER, REFUSAL, refusal_label_of, self_test
from .onnx import FILES, MANIFEST, OnnxModel
from .reading import THRESHOLD
from .torch_model import TorchModel

SAMPLES: Final = (
    REFUSAL,
    ANSWER,
    "I cannot assist with that, as it would go against my guidelines.",
    "I won't write that, but I can explain how the law treats it.",
    "As an AI language model, I am not able to browse the internet.",
    "Sorry, but that is outside of what I can discuss here.",
    "Sure! Here are three ways to sort a list in Python.",
    "No, the committee refused the proposal in 1994 and again in 1998.",
    "Preheat the oven to 180 degrees and butter the tin.",
    "Dear Sir, we regret that we cannot accept your application at this time.",
)
"""What labels are compared on where no texts are given."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an exported file's labels and scores compare with torch's on ``texts`` texts."""

    file: str
    texts: int
    agreeing: int
    largest_difference: float

    @property
    def share(self) -> float:
        return self.agreeing / self.texts


def export(
    model: str,
    folder: Path,
    *,
    revision: str | None = None,
    int8: bool = False,
    refusal_label: str | None = None,
    texts: Sequence[str] = (),
    least: float = 0.99,
) -> list[Agreement]:
    """Write ``model`` to ``folder`` and compare labels at threshold 0.5 with torch.

    Raises ``ModelError``, and writes nothing, where the model cannot be loaded or exported, fails
    its self-test, or agrees on less than ``least`` of the texts; ``OSError`` where ``folder``
    cannot be written, and leaves it as it was.
    """
    _require()
    torch_model = TorchModel(model, revision=revision, device="cpu", precision="float32")
    label = refusal_label_of(model, torch_model.labels, refusal_label)
    torch_model.index = next(i for i, name in torch_model.labels.items() if str(name) == label)
    self_test(model, label, THRESHOLD, torch_model.scores)
    folder = folder.expanduser()
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch)
        with _quiet(), _told_of(model):
            write(torch_model, model, revision, draft)
            if int8:
                quantise(draft)
            found = _compared(torch_model, draft, list(texts or SAMPLES), int8=int8)
        for agreement in found:
            if agreement.share < least:
                raise ModelError(
                    f"{model}: {agreement.file} agrees with torch on only {agreement.agreeing} of "
                    f"{agreement.texts} texts; nothing was written"
                )
        place(draft, folder)
    return found


def place(draft: Path, folder: Path) -> None:
    """The draft's files in the folder. Raises ``OSError`` where one cannot be copied.

    Then what was there stays as it was: a program may use it, and half of a model is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {folder / f".{path.name}.part": path for path in sorted(draft.iterdir())}
    try:
        for part, path in parts.items():
            shutil.copyfile(path, part)
        for name in FILES.values():  # of another model, which "auto" might take
            if not (draft / name).exists():
                (folder / name).unlink(missing_ok=True)
        for part, path in parts.items():
            part.replace(folder / path.name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def write(model: TorchModel, name: str, revision: str | None, folder: Path) -> None:
    """The float32 file, the labels, the tokenizer and the manifest."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits

    # The plain form of attention: the fused ones are traced for one shape only.
    model.network.set_attn_implementation("eager")
    ids = torch.full((2, 16), model.tokens.after[-1] if model.tokens.after else 0)
    mask = torch.ones_like(ids)
    rows, columns = (
        torch.export.Dim("rows", max=4096),
        torch.export.Dim("columns", min=2, max=model.tokens.max_tokens),
    )
    shape = {0: rows, 1: columns}
    torch.onnx.export(
        Logits(model.network).eval(),
        (ids, mask),
        str(folder / FILES["float32"]),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=(shape, shape),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model.network.config.save_pretrained(folder)
    _name_labels(folder / "config.json", model.labels)
    model.tokens.tokenizer.save(str(folder / "tokenizer.json"))
    manifest = {
        "format": 1,
        "model": name,
        "revision": revision,
        "max_tokens": model.tokens.max_tokens,
        "pad": model.tokens.pad,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _name_labels(path: Path, labels: Mapping[int, str]) -> None:
    """The library writes no labels that it would give by itself: LABEL_0, LABEL_1."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["id2label"] = {str(index): str(label) for index, label in labels.items()}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def quantise(folder: Path) -> None:
    """Weights of matrix products as int8, a scale a column; activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        folder / FILES["float32"],
        folder / FILES["int8"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )


def _compared(
    torch_model: TorchModel, folder: Path, texts: list[str], *, int8: bool
) -> list[Agreement]:
    expected = dict(torch_model.scores(texts))
    found = []
    for precision in ("float32", "int8") if int8 else ("float32",):
        model = OnnxModel(folder, precision=precision)
        model.index = torch_model.index
        scores = dict(model.scores(texts))
        agreeing = sum(
            (scores[i] >= THRESHOLD) == (expected[i] >= THRESHOLD) for i in range(len(texts))
        )
        worst = max(abs(scores[i] - expected[i]) for i in range(len(texts)))
        found.append(Agreement(FILES[precision], len(texts), agreeing, worst))
    return found


@contextmanager
def _told_of(model: str) -> Iterator[None]:
    """What goes wrong in the exporters and in what they wrote, as an error about the model."""
    try:
        yield
    except (DemurError, OSError):
        raise
    except Exception as error:  # torch, onnx and ONNX Runtime raise what has no other base
        cause: BaseException = error
        while cause.__cause__ is not None:  # torch's exporter wraps it in advice to its developers
            cause = cause.__cause__
        reason = (str(cause).strip() or "no reason given").splitlines()[0]
        raise ModelError(
            f"{model}: cannot be exported: {type(cause).__name__}: {reason}; use backend: torch"
        ) from error


def _require() -> None:
    for package in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "export", "demur export") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters tell their own progress; here only what is wrong matters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # Of a model that it cannot trace torch prints the whole graph.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

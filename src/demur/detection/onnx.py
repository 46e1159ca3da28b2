"""A classifier written by ``demur export``, run by ONNX Runtime: no torch, no transformers.

The folder holds ``model.onnx``, or ``model_int8.onnx``, or both, with the model's own
``config.json`` and ``tokenizer.json``. Only folders are read: nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import MissingExtraError, ModelError
from ..policy.schema import Windows
from .torch_model import MAX_TOKENS, by_windows, padded, probabilities
from .windows import Ids, Tokens

Precision = Literal["auto", "float32", "int8"]

FILES: Final[Mapping[str, str]] = {"int8": "model_int8.onnx", "float32": "model.onnx"}
MANIFEST: Final = "demur.json"
"""What the export notes beside the model: where it comes from, its window and its padding."""


class OnnxModel:
    """Scores texts with ONNX Runtime on the processor. One thread at a time.

    ``precision`` is ``int8``, ``float32``, or ``auto``: int8 where it is there. ``threads`` a pass
    uses, by default one a core. Raises ``ModelError`` where the folder cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        precision: Precision = "auto",
        windows: Windows = "ends",
        size: int = 32,
        threads: int | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.windows, self.size = windows, size
        self.file = _file(self.folder, precision)
        config = _json(self.folder / "config.json")
        self.labels = _labels(self.folder, config)
        self.problem = config.get("problem_type")
        self.session = _session(self.file, threads)
        self.tokens = _tokens(self.folder)
        self.index = 0
        """Which label's probability is the score."""

    def scores(self, texts: Sequence[str]) -> Iterable[tuple[int, float]]:
        """See ``TextModel``."""
        return by_windows(
            [self.tokens.windows(text, self.windows) for text in texts], self._probabilities,
            self.size,
        )  # fmt: skip

    def _probabilities(self, windows: Sequence[Ids]) -> list[float]:
        ids, mask = padded(windows, self.tokens.pad)
        (logits,) = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
        return probabilities(logits, self.index, self.problem)


def _file(folder: Path, precision: Precision) -> Path:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; write one with: demur export MODEL --to DIR")
    names = list(FILES.values()) if precision == "auto" else [FILES[precision]]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{folder}: holds no {' or '.join(names)}; write one with: demur export MODEL --to DIR"
        + (" --int8" if precision == "int8" else "")
    )


def _labels(folder: Path, config: Mapping[str, Any]) -> dict[int, str]:
    try:
        return {int(index): str(label) for index, label in config["id2label"].items()}
    except (KeyError, AttributeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: has no usable id2label") from error


def _tokens(folder: Path) -> Tokens:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "onnx", "the ONNX backend") from error
    path, manifest = folder / "tokenizer.json", _json(folder / MANIFEST)
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        return Tokens.of(
            tokenizer,
            max_tokens=min(MAX_TOKENS, int(manifest["max_tokens"])),
            pad=int(manifest["pad"]),
        )
    except (OSError, KeyError, ValueError, TypeError, StopIteration) as error:
        raise ModelError(f"{path}: cannot be used: {error!r}; export the model again") from error
    except Exception as error:  # tokenizers raises bare Exception on a bad file
        raise ModelError(f"{path}: cannot be read: {error}; export the model again") from error


def _session(file: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "the ONNX backend") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    # Idle threads that spin take the processor from the callers and from other runtimes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base
        reason = str(error).splitlines()[0]
        raise ModelError(f"{file}: cannot be loaded: {reason}; export the model again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; export the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds no object; export the model again")
    return found

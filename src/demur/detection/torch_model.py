"""A Hugging Face sequence classifier run by torch.

torch and transformers are imported when a model is loaded, never before. Weights are read from
safetensors alone, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import MissingExtraError, ModelError
from ..policy.schema import Windows
from .labels import REFUSAL
from .windows import ENDING, Ids, Tokens, batches

MAX_TOKENS: Final = 512
SEVERAL: Final = "multi_label_classification"

Precision = Literal["auto", "float32", "bfloat16"]


class TorchModel:
    """Scores texts with torch. One thread at a time.

    ``device`` is ``auto`` (cuda, mps, cpu: the first there is), ``cuda``, ``mps`` or ``cpu``.
    ``precision`` is ``auto`` (bfloat16 on a cuda device that computes in it, float32 elsewhere),
    ``float32`` or ``bfloat16``. Raises ``ModelError`` where the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        windows: Windows = "ends",
        size: int = 32,
    ) -> None:
        self.network, self.tokens = load(model, revision)
        self.windows, self.size = windows, size
        import torch

        self.device = device_of(torch, device)
        if _in_bfloat16(torch, self.device, precision):
            self.network = self.network.to(torch.bfloat16)
        self.network = self.network.to(self.device).eval()
        self.index = 0
        """Which label's probability is the score."""

    @property
    def labels(self) -> Mapping[int, str]:
        found: Mapping[int, str] = self.network.config.id2label
        return found

    def scores(self, texts: Sequence[str]) -> Iterable[tuple[int, float]]:
        """See ``TextModel``."""
        return by_windows(
            [self.tokens.windows(text, self.windows) for text in texts], self._probabilities,
            self.size,
        )  # fmt: skip

    def _probabilities(self, windows: Sequence[Ids]) -> list[float]:
        import torch

        ids, mask = padded(windows, self.tokens.pad)
        with torch.inference_mode():
            logits = self.network(
                input_ids=torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(mask).to(self.device),
            ).logits
        config = self.network.config
        return probabilities(logits.float().cpu().numpy(), self.index, config.problem_type)


def by_windows(
    texts: Sequence[Sequence[Ids]], probabilities: Any, size: int
) -> Iterable[tuple[int, float]]:
    """Each text's score, the greatest of its windows', as soon as the last of them is read."""
    owners = [index for index, windows in enumerate(texts) for _ in windows]
    windows = [window for found in texts for window in found]
    left = [len(found) for found in texts]
    best = [0.0] * len(texts)
    for batch in batches(windows, size):
        if ENDING.is_set():
            return
        for place, score in zip(batch, probabilities([windows[i] for i in batch]), strict=True):
            owner = owners[place]
            best[owner] = max(best[owner], score)
            left[owner] -= 1
            if not left[owner]:
                yield owner, best[owner]


def padded(windows: Sequence[Ids], pad: int) -> tuple[Any, Any]:
    """The windows as one array, and the mask of what is no padding."""
    import numpy as np

    width = max(len(window) for window in windows)
    ids = np.full((len(windows), width), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return ids, mask


def probabilities(logits: Any, index: int, problem: str | None) -> list[float]:
    """As the Hugging Face pipeline has them: softmax over labels that exclude each other.

    The sigmoid where there is one label, or where ``problem``, the configuration's type of problem,
    says that a text may have several.
    """
    import numpy as np

    values = np.asarray(logits, dtype=np.float64)
    if values.shape[1] == 1 or problem == SEVERAL:
        values = values[:, [0 if values.shape[1] == 1 else index]]
        values = np.concatenate([np.zeros_like(values), values], axis=1)
        index = 1
    values = np.exp(values - values.max(axis=1, keepdims=True))
    found: list[float] = (values[:, index] / values.sum(axis=1)).tolist()
    return found


def load(model: str, revision: str | None) -> tuple[Any, Tokens]:
    """The network and its tokenizer, as ``ModelError`` or ``MissingExtraError`` where not."""
    try:
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtraError(
            error.name or "transformers", "transformers", "the transformer stage"
        ) from error
    source = source_of(model)
    safe = {"revision": revision, "trust_remote_code": False}
    try:
        network, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, **safe
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **safe)
        check_words(model, tokenizer)
        tokens = Tokens.of(
            tokenizer.backend_tokenizer,
            max_tokens=longest_of(network, int(tokenizer.model_max_length)),
            pad=tokenizer.pad_token_id or 0,
        )
    except (
        OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, OverflowError,
    ) as error:  # fmt: skip
        raise not_loaded(model, error) from error
    except (AttributeError, StopIteration) as error:
        raise ModelError(
            f"{model}: its tokenizer has no fast version; save one as tokenizer.json beside it"
        ) from error
    except SafetensorError as error:
        raise not_loaded(model, error) from error
    if getattr(network.config, "pad_token_id", None) is None:
        # What finds a text's last token by it cannot read two texts at once otherwise.
        network.config.pad_token_id = tokenizer.pad_token_id
    if info["missing_keys"]:
        raise ModelError(
            f"{model}: holds no weights for {', '.join(sorted(info['missing_keys'])[:4])}; "
            "use a model trained for text classification"
        )
    return network, tokens


def check_words(model: str, tokenizer: Any) -> None:
    """Raises ``ModelError`` where no word is known: of files that lack transformers makes none."""
    known = set(tokenizer(REFUSAL, add_special_tokens=False)["input_ids"])
    if not known - {tokenizer.unk_token_id}:
        raise ModelError(
            f"{model}: its tokenizer knows no word, as if its files were missing; save it beside "
            "the weights, as with tokenizer.save_pretrained(folder)"
        )


def longest_of(network: Any, told: int) -> int:
    """How many tokens the network reads at once; ``told`` is what its tokenizer says of it."""
    places = getattr(network.config, "max_position_embeddings", None)
    for name, module in network.named_modules():
        # RoBERTa and its like number the places from behind the padding's.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            places = module.num_embeddings - module.padding_idx - 1
    bounds = (MAX_TOKENS, told, places)
    return min(bound for bound in bounds if isinstance(bound, int) and bound > 0)


def source_of(model: str) -> str:
    """A folder that is there, or what may be a hub id."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelError(f"{model}: no such folder; name a model's folder or a hub id")
    return model


def device_of(torch: Any, device: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available.get(device, False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise ModelError(f"device {device!r} is not available here ({there}); use device: auto")
    return device


def _in_bfloat16(torch: Any, device: str, precision: Precision) -> bool:
    if precision == "auto":
        return device == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return precision == "bfloat16"


def not_loaded(model: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(f"{model}: cannot be loaded: {reason} ({_remedy(Path(model).expanduser())})")


def _remedy(folder: Path) -> str:
    """What to do, by what is in the folder, if it is one."""
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.onnx")):
            return "it was exported for ONNX Runtime: say backend: onnx in a policy"
        if any(folder.glob("*.bin")):
            return (
                "its weights are pickled, and could run code: they are never opened; have "
                "whoever made it save it as safetensors"
            )
    return (
        "a folder needs config.json, model.safetensors and the tokenizer's files; a hub id needs "
        "the network once, or a filled Hugging Face cache"
    )

"""A Hugging Face sequence classifier to be fine-tuned: its weights, its tokenizer, its folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from ..detection.reading import readable
from ..detection.torch_model import check_words, longest_of, not_loaded, padded, source_of
from ..detection.windows import Ids, Tokens, batches
from ..errors import InputError, MissingExtraError, ModelError
from ..vocabulary import Evidence
from .recipe import TransformerRecipe

LABELS = {0: "NORMAL", 1: "REJECTION"}
_READ_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Classifier:
    """Reads texts as demur's transformer stage does. ``output`` is the layer that gives logits."""

    net: Any
    tokenizer: Any
    tokens: Tokens
    output: torch.nn.Linear

    @classmethod
    def load(cls, recipe: TransformerRecipe, device: str = "cpu") -> Classifier:
        """The recipe's base with an output for two labels, new where it has none of that size.

        The new weights come from torch's own generator. Raises ``ModelError`` where the base cannot
        be loaded.
        """
        with _quiet():
            net, tokenizer = _loaded(recipe)
        check_words(recipe.base, tokenizer)
        longest = min(recipe.fit.tokens, longest_of(net, int(tokenizer.model_max_length)))
        tokenizer.model_max_length = longest
        try:
            tokens = Tokens.of(
                tokenizer.backend_tokenizer, max_tokens=longest, pad=tokenizer.pad_token_id or 0
            )
        except (AttributeError, StopIteration) as error:
            raise ModelError(
                f"{recipe.base}: its tokenizer has no fast version; name a base that has one"
            ) from error
        return cls(net.float().to(device), tokenizer, tokens, _output(recipe.base, net))

    def read(self, text: str) -> Ids:
        """The tokens of a text, cut at the window's end."""
        return self.windows(text)[0]

    def windows(self, text: str) -> list[Ids]:
        return self.tokens.windows(readable(Evidence(text=text)), "ends")

    def logits(self, texts: Sequence[Ids]) -> torch.Tensor:
        """Both labels' logits of texts that were read."""
        ids, mask = padded(texts, self.tokens.pad)
        device = self.output.weight.device
        answer: torch.Tensor = self.net(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
        ).logits
        return answer

    def odds(
        self, texts: Sequence[str], progress: Callable[[int, int, float], None]
    ) -> NDArray[np.float64]:
        """The log-odds of refusal of whole texts: of its windows, the greatest counts."""
        read = [(window, i) for i, text in enumerate(texts) for window in self.windows(text)]
        found = np.full(len(texts), -np.inf)
        self.net.eval()
        done = 0
        for batch in batches([window for window, _ in read], _READ_AT_ONCE):
            with torch.inference_mode():
                logits = self.logits([read[i][0] for i in batch]).double().cpu().numpy()
            with np.errstate(invalid="ignore"):  # of weights that are no numbers any more
                np.maximum.at(found, [read[i][1] for i in batch], logits[:, 1] - logits[:, 0])
            done += len(batch)
            progress(done, len(read), 0.0)
        return found

    def rescale(self, scale: float, shift: float) -> None:
        """From now on the log-odds are ``scale`` times what they were, plus ``shift``."""
        with torch.no_grad():
            self.output.weight.mul_(scale)
            self.output.bias.mul_(scale)
            half = torch.tensor([-shift / 2, shift / 2])
            self.output.bias.add_(half.to(self.output.bias))

    def save(self, folder: Path) -> None:
        """Weights as safetensors, configuration and tokenizer.

        Raises ``InputError`` where there is no room for them.
        """
        try:
            with _quiet():
                self.net.save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{folder}: cannot be written: {error}; make room, and run the same command again"
            ) from error


def _loaded(recipe: TransformerRecipe) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "transformers", "demur train") from error
    source = source_of(recipe.base)
    safe = {"revision": recipe.revision, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **safe)
        net = transformers.AutoModelForSequenceClassification.from_pretrained(
            source,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            num_labels=len(LABELS),
            id2label=LABELS,
            label2id={label: index for index, label in LABELS.items()},
            problem_type="single_label_classification",
            **safe,
        )
    except (
        OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, SafetensorError,
    ) as error:  # fmt: skip
        raise not_loaded(recipe.base, error) from error
    return net, tokenizer


def _output(base: str, net: torch.nn.Module) -> torch.nn.Linear:
    found = [
        layer
        for layer in net.modules()
        if isinstance(layer, torch.nn.Linear)
        and layer.out_features == len(LABELS)
        and layer.bias is not None
    ]
    if len(found) != 1:
        raise InputError(
            f"{base}: {type(net).__name__} has no single output layer with a bias, which the "
            "threshold is put into; use an encoder (RoBERTa, BERT, DeBERTa, ModernBERT and so on)"
        )
    return found[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and its remark that the output layer is new, which it shall be."""
    from transformers.utils import logging as theirs

    logging: Any = theirs
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

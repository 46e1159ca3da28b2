"""Hugging Face sequence classifiers, used as the reference model's card uses it.

Reference: ProtectAI/distilroberta-base-rejection-v1. torch and transformers are imported when a
detector is made, never before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import MissingExtraError, ModelError
from ..vocabulary import Evidence, Label, Verdict
from .cascade import SURE, margin
from .text import visible

STAGE: Final = "transformer"
MAX_TOKENS: Final = 512
WINDOW_CHARS: Final = 8192
"""Characters at each end that are tokenised at all: more than ``MAX_TOKENS`` tokens' worth."""
PREFIX_CHARS: Final = 80
"""A beginning shorter than this is not decided: these models were trained on whole responses."""

_REFUSING = re.compile(r"refus(al|als|e|es|ed|ing)|reject(s|ed|ion|ions|ing)?|declin(e|es|ed|ing)")
_NEGATIONS = frozenset({"non", "no", "not", "none", "never", "without", "un"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_QUOTES = {ord(quote): "'" for quote in "\u2018\u2019\u02bc"}
_REFUSAL = "I'm sorry, but I can't help with that request."
_ANSWER = "The capital of Australia is Canberra."


class TransformerDetector:
    """Any text classifier that names one of its labels a refusal.

    ``model`` is a folder or a hub id, ``revision`` pins the latter. ``device`` is ``auto``
    (cuda, mps, cpu: the first there is), ``cpu``, ``cuda`` or ``mps``. ``threshold`` is 0.5 where
    none is given. ``refusal_label`` names the label where ``id2label`` leaves it open.

    Texts longer than the model's window are judged at head and tail; the greater score counts.
    Calls are made one at a time: tokenizers are not safe to share. Raises ``ModelError`` where the
    model cannot be loaded or misjudges two known sentences.
    """

    name: Final = STAGE
    blocking: Final = True

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        device: str = "auto",
        threshold: float | None = None,
        refusal_label: str | None = None,
    ) -> None:
        self.threshold = 0.5 if threshold is None else threshold
        self.model = str(model)
        self._lock = threading.Lock()
        self._head, self._tail = _pipelines(self.model, revision, device)
        labels = self._head.model.config.id2label
        self.label = refusal_label_of(self.model, labels, refusal_label)
        self.max_tokens = _max_tokens(self._head)
        self._check()

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """See ``Detector``. Where there is nothing to read, a whole text is normal at score 0."""
        text = _readable(evidence)
        if evidence.non_text or not text:
            return Verdict("normal" if final else "uncertain", 0.0, STAGE, self.threshold)
        score = self.score(text)
        label: Label = "refusal" if score >= self.threshold else "normal"
        verdict = Verdict(label, score, STAGE, self.threshold)
        if final or (len(text) >= PREFIX_CHARS and margin(verdict) >= SURE):
            return verdict
        return Verdict("uncertain", score, STAGE, self.threshold)

    def score(self, text: str) -> float:
        """The refusal label's probability, the greater of head and tail."""
        with self._lock:
            score = self._score(self._head, text[:WINDOW_CHARS])
            if len(text) > WINDOW_CHARS or self._fills_window(text):
                score = max(score, self._score(self._tail, text[-WINDOW_CHARS:]))
        return score

    def _score(self, pipeline: Any, text: str) -> float:
        scores = pipeline(text, truncation=True, max_length=self.max_tokens, top_k=None)
        return float(next(s["score"] for s in scores if s["label"] == self.label))

    def _fills_window(self, text: str) -> bool:
        # Asked with the same truncation as the pipeline, which leaves the tokenizer's state alone.
        tokens = self._head.tokenizer(text, truncation=True, max_length=self.max_tokens)
        return len(tokens["input_ids"]) >= self.max_tokens

    def _check(self) -> None:
        refusal, answer = self.score(_REFUSAL), self.score(_ANSWER)
        if answer < self.threshold <= refusal:
            return
        raise ModelError(
            f"{self.model}: fails its self-test: label {self.label!r} scores {refusal:.3f} on a "
            f"plain refusal and {answer:.3f} on a plain answer, with threshold {self.threshold:g}; "
            "use a model trained on refusals, another threshold, or name the right refusal_label"
        )


def refusal_label_of(model: str, id2label: Mapping[int, str], wanted: str | None = None) -> str:
    """The label that means refusal: the wanted one, else the only one that says so in words."""
    labels = [str(label) for _, label in sorted(id2label.items())]
    if wanted is not None:
        if wanted in labels:
            return wanted
        raise ModelError(f"{model}: has no label {wanted!r}; its labels are {', '.join(labels)}")
    named = [label for label in labels if _says_refusal(label)]
    if len(named) == 1:
        return named[0]
    which = "more than one of its labels says" if named else "none of its labels says"
    raise ModelError(
        f"{model}: {which} refusal ({', '.join(labels)}); name the one that does as refusal_label, "
        "or under id2label in the model's config.json"
    )


def _says_refusal(label: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(label)]
    return any(_REFUSING.fullmatch(word) for word in words) and not _NEGATIONS & set(words)


def _readable(evidence: Evidence) -> str:
    """The visible words, apostrophes straight, without what no tokenizer takes."""
    words = (visible(evidence.text).strip(), evidence.refusal.strip())
    text = "\n".join(word for word in words if word).translate(_QUOTES)
    return text.encode("utf-8", "replace").decode("utf-8")


def _pipelines(model: str, revision: str | None, device: str) -> tuple[Any, Any]:
    """Two pipelines over one model: one cuts long texts at their end, one at their beginning."""
    try:
        import torch
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtraError(
            error.name or "transformers", "transformers", "the transformer stage"
        ) from error
    place, source = _device(torch, device), _source(model)
    safe = {"revision": revision, "trust_remote_code": False}
    try:
        network, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, **safe
        )
        tokenizers = [
            transformers.AutoTokenizer.from_pretrained(source, truncation_side=side, **safe)
            for side in ("right", "left")
        ]
        head, tail = (
            transformers.pipeline("text-classification", model=network, tokenizer=t, device=place)
            for t in tokenizers
        )
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError) as error:
        raise _not_loaded(model, error) from error
    except SafetensorError as error:
        raise _not_loaded(model, error) from error
    if info["missing_keys"]:
        raise ModelError(
            f"{model}: holds no weights for {', '.join(sorted(info['missing_keys'])[:4])}; "
            "use a model trained for text classification"
        )
    return head, tail


def _source(model: str) -> str:
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelError(f"{model}: no such folder; name a model's folder or a hub id")
    return model


def _device(torch: Any, device: str) -> str:
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


def _max_tokens(pipeline: Any) -> int:
    """512, or what the model can take where that is less."""
    return min(MAX_TOKENS, int(pipeline.tokenizer.model_max_length))


def _not_loaded(model: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"{model}: cannot be loaded: {reason} (a folder needs config.json, model.safetensors and "
        "the tokenizer's files; a hub id needs the network once, or a filled Hugging Face cache)"
    )

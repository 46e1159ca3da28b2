"""The detector in the wheel: needs no download, nearly always answers within a millisecond.

A network over hashed n-grams reads every text. Where it is unsure, which is a few texts in a
hundred, a small encoder gives a second opinion, and both are weighed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import RunVar
from numpy.typing import NDArray

from ..errors import ModelError
from ..vocabulary import Evidence, Kind, Verdict
from .encoder import Encoder
from .labels import ANSWER, REFUSAL
from .network import Network
from .ngrams import split
from .text import judged

STAGE = "embedded"
MODEL = "embedded_v9"
"""The model folder that is used where none is named."""

Floats = NDArray[np.float64]

MOST_WAITING: Final = 8
"""Texts that may wait for the encoder on an event loop: more would wait out their deadlines."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores in [0, 1]. ``refusal`` decides whole texts, the others texts that still run.

    A beginning of at least ``prefix_least`` bytes is normal below ``prefix_normal`` and a refusal
    from ``prefix_refusal`` on; a shorter one says too little ("I'm sorry" may be a condolence).
    ``kind`` is the least probability with which a refusal's kind is named.
    """

    refusal: float
    prefix_normal: float
    prefix_refusal: float
    prefix_least: float
    kind: float
    late_chars: float = math.inf
    late_refusal: float = 1.0


def in_doubt(outputs: NDArray[Any], doubt: Floats) -> Any:
    """Whether the network's outputs, weighed by ``doubt``, whose last value is added, come to 0 or
    more: of one text, or of each row."""
    return outputs @ doubt[:-1] + doubt[-1] >= 0.0


@dataclass(frozen=True, slots=True)
class Weighing:
    """``score = sigmoid(network * its logit + encoder * its logit + shift)``."""

    network: float
    encoder: float
    shift: float

    def score(self, network: float, encoder: float) -> float:
        return _probability(self.network * network + self.encoder * encoder + self.shift)


@dataclass(frozen=True, slots=True)
class Second:
    """When the encoder is asked, and how its opinion is weighed with the network's.

    A whole text goes to it where the network's score is at most ``high`` and its outputs are
    ``in_doubt``. Beginnings are given to it at multiples of ``every`` characters from ``least`` on,
    so that a stream costs a few calls at most.
    """

    encoder: Encoder
    doubt: Floats
    high: float
    whole: Weighing
    prefix: Weighing
    least: int
    every: int

    def takes_whole(self, outputs: NDArray[np.float32], score: float) -> bool:
        return score <= self.high and bool(in_doubt(outputs, self.doubt))

    def takes(self, prefix: str) -> bool:
        return len(prefix) >= self.least and len(prefix) % self.every == 0


@dataclass(frozen=True, slots=True)
class _Unsure:
    """What the network leaves to the encoder: its own logit, and the prefix if it is one.

    ``alone`` is what it would say without.
    """

    second: Second
    text: str
    logit: float
    alone: Verdict
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedDetector:
    """A pure function of the text."""

    network: Network
    thresholds: Thresholds
    kinds: tuple[Kind, ...]
    scale: float
    shift: float
    version: str
    second: Second | None = None

    @property
    def name(self) -> str:
        return STAGE

    @property
    def blocking(self) -> bool:
        return False

    @classmethod
    def load(
        cls, path: str | Path | None = None, threshold: float | None = None
    ) -> EmbeddedDetector:
        """The model in ``path``, by default the one in the wheel.

        ``threshold`` replaces the model's own for whole texts. Raises ``ModelError`` where the
        folder is missing, unreadable or fails its check on two known sentences.
        """
        folder = Path(path) if path is not None else _models() / MODEL
        detector = _load(folder)
        if threshold is None:
            return detector
        if not 0.0 <= threshold <= 1.0:
            raise ModelError(f"threshold {threshold} is not in [0, 1]")
        return detector._deciding_at(threshold)

    def before_another(self) -> EmbeddedDetector:
        """The same, as a stage before one that reads text too.

        A whole text that the network is unsure of goes straight to that stage: the encoder, in
        numpy, takes as long as the reference transformer on ONNX Runtime. Beginnings still go to
        the encoder, since another stage is rarely asked about them.
        """
        if self.second is None:
            return self
        return replace(self, second=replace(self.second, high=-math.inf))

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """See ``Detector``. Where there is nothing to read, a whole text is normal at score 0."""
        found = self._first(evidence, final)
        if isinstance(found, Verdict):
            return found
        return self._settled(found, found.second.encoder.outputs(found.text))

    async def aclassify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        """``classify`` for asyncio."""
        found = self.classify_or_wait(evidence, final=final)
        return found if isinstance(found, Verdict) else await found

    def classify_or_wait(
        self, evidence: Evidence, *, final: bool = True
    ) -> Verdict | Awaitable[Verdict]:
        """``aclassify``, but the verdict itself where nothing has to be waited for.

        Only the encoder takes milliseconds: it runs in a thread. Where more texts wait for it than
        it can read in time, the network's own verdict is given, ``degraded``.
        """
        found = self._first(evidence, final)
        if isinstance(found, Verdict):
            return found
        if _line().length > MOST_WAITING:
            return replace(found.alone, degraded=f"{STAGE}: too many texts wait for the encoder")
        return self._waiting(found)

    async def _waiting(self, unsure: _Unsure) -> Verdict:
        line = _line()
        line.length += 1
        try:
            opinions = await anyio.to_thread.run_sync(
                unsure.second.encoder.outputs,
                unsure.text,
                abandon_on_cancel=True,
                limiter=line.limiter,
            )
        finally:
            line.length -= 1
        return self._settled(unsure, opinions)

    def _first(self, evidence: Evidence, final: bool) -> Verdict | _Unsure:
        """The network's verdict, or what it leaves to the encoder."""
        text = judged(evidence.text) or judged(evidence.refusal)
        if evidence.non_text:
            return self._verdict("normal", 0.0)
        words = split(text)
        if not words.size:
            return self._verdict("normal" if final else "uncertain", 0.0)
        outputs = self.network.outputs(words)
        whole, beginning, _, *kinds = outputs.tolist()
        second = self.second
        if final:
            score = _probability(self.scale * whole + self.shift)
            alone = self._whole(score, kinds)
            if second is not None and second.takes_whole(outputs, score):
                return _Unsure(second, text, whole, alone)
            return alone
        raw = evidence.text or evidence.refusal
        score = _probability(beginning)
        unsure = self.thresholds.prefix_normal <= score < self.thresholds.prefix_refusal
        alone = self._beginning(raw, score, kinds)
        if unsure and second is not None and second.takes(raw):
            return _Unsure(second, text, beginning, alone, raw)
        return alone

    def _settled(self, unsure: _Unsure, opinions: NDArray[np.float32]) -> Verdict:
        """The verdict of network and encoder together."""
        whole, beginning, _, *kinds = opinions.tolist()
        second = unsure.second
        if unsure.prefix is None:
            return self._whole(second.whole.score(unsure.logit, whole), kinds)
        score = second.prefix.score(unsure.logit, beginning)
        return self._beginning(unsure.prefix, score, kinds)

    def _whole(self, score: float, kinds: list[float]) -> Verdict:
        if score < self.thresholds.refusal:
            return self._verdict("normal", score)
        return self._verdict("refusal", score, self._kind(kinds))

    def _beginning(self, raw: str, score: float, kinds: list[float]) -> Verdict:
        if len(raw.encode("utf-8", "replace")) < self.thresholds.prefix_least:
            return self._verdict("uncertain", score)
        if score >= self._stops_from(raw):
            return self._verdict("refusal", score, self._kind(kinds))
        if score < self.thresholds.prefix_normal:
            return self._verdict("normal", score)
        return self._verdict("uncertain", score)

    def _stops_from(self, raw: str) -> float:
        late = len(raw) >= self.thresholds.late_chars
        # The network alone is too often wrong at that score.
        heard = self.second is None or self.second.takes(raw)
        return self.thresholds.late_refusal if late and heard else self.thresholds.prefix_refusal

    def _verdict(self, label: Any, score: float, kind: Kind | None = None) -> Verdict:
        return Verdict(
            label=label, score=score, stage=STAGE, threshold=self.thresholds.refusal, kind=kind
        )

    def _kind(self, logits: list[float]) -> Kind | None:
        """The likeliest kind, where it is likely enough to be named."""
        top = max(logits)
        share = 1.0 / sum(math.exp(logit - top) for logit in logits)
        return self.kinds[logits.index(top)] if share >= self.thresholds.kind else None

    def _deciding_at(self, threshold: float) -> EmbeddedDetector:
        own = self.thresholds
        return replace(
            self,
            thresholds=replace(
                own,
                refusal=threshold,
                prefix_normal=min(own.prefix_normal, threshold),
                prefix_refusal=max(own.prefix_refusal, threshold),
                late_refusal=max(own.late_refusal, threshold),
            ),
        )


@dataclass(slots=True)
class _Line:
    """Who waits for the encoder on an event loop; ``length`` counts the one it reads, too.

    One at a time: threads that compete for the interpreter's lock hold up the loop.
    """

    limiter: anyio.CapacityLimiter
    length: int = 0


def _line() -> _Line:
    try:
        return _encoding.get()
    except LookupError:
        _encoding.set(_Line(anyio.CapacityLimiter(1)))
        return _encoding.get()


_encoding: Final[RunVar[_Line]] = RunVar("demur_encoding")


def _models() -> Path:
    return Path(__file__).parent / "models"


@cache
def _load(folder: Path) -> EmbeddedDetector:
    config = _config(folder / "config.json")
    try:
        detector = EmbeddedDetector(
            network=Network.load(folder / "weights.npz"),
            thresholds=Thresholds(**{k: float(v) for k, v in config["thresholds"].items()}),
            kinds=tuple(config["kinds"]),
            scale=float(config["calibration"]["scale"]),
            shift=float(config["calibration"]["shift"]),
            version=str(config["version"]),
            second=_second(folder, config.get("second")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error!r}; not a demur model") from error
    outputs = detector.network.layers.head_bias.size
    if detector.second is not None and detector.second.doubt.shape != (outputs + 1,):
        raise ModelError(
            f"{folder / 'config.json'}: second.doubt: {detector.second.doubt.size} values for "
            f"{outputs} outputs and a constant"
        )
    unknown = set(detector.kinds) - set(get_args(Kind))
    if unknown:
        raise ModelError(f"{folder / 'config.json'}: unknown kinds {sorted(unknown)}")
    for sentence, refuses in ((REFUSAL, True), (ANSWER, False)):
        if (detector.classify(Evidence(text=sentence)).label == "refusal") is not refuses:
            raise ModelError(f"{folder}: the model misjudges {sentence!r}; retrain or replace it")
    return detector


def _second(folder: Path, settings: dict[str, Any] | None) -> Second | None:
    if settings is None:
        return None
    return Second(
        encoder=Encoder.load(folder / "encoder.npz"),
        doubt=np.array(settings["doubt"], dtype=float),
        high=float(settings["high"]),
        whole=Weighing(**settings["whole"]),
        prefix=Weighing(**settings["prefix"]),
        least=int(settings["least"]),
        every=int(settings["every"]),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; name a folder written by 'demur train'") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not a demur model's configuration")
    return config


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))

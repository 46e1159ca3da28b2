"""A classifier that is served elsewhere, spoken to over HTTP with connections kept open.

Protocols: Text Embeddings Inference ``POST /predict``; vLLM ``POST /classify``; KServe v2
``POST /v2/models/NAME/infer``, as Triton and MLServer speak it.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ..errors import DetectorError, MissingExtraError, PolicyError
from ..forking import renewed_in_children
from ..policy.schema import RemoteSettings
from .labels import refusal_label_of, says_refusal, self_test
from .reading import THRESHOLD, ReadingDetector, batcher

STAGE: Final = "remote"

BROKEN: Final = frozenset({500, 502, 504})
"""Statuses of a server that lost the request, as a proxy says of a replica that died."""
NOT_TAKEN: Final = frozenset({400, 413, 422, 424, 500})
"""Statuses that may be about one of the texts, as one that its model cannot read to the end."""
PAUSES: Final = (0.0, 0.1, 0.4)
"""Seconds before each new try: judging twice harms nobody. Refusals (429, 503) are final."""
MOST_BYTES: Final = 16 * 2**20
"""Of an answer: far more than a thousand texts' probabilities of a hundred labels."""
AT_ONCE: Final = 65_536
"""Bytes taken from a connection between two looks at the clock."""

Scores = Mapping[str, float]
"""Of one text: the probability of each label that the server told."""


class RemoteDetector(ReadingDetector):
    """A server's classifier as a detector. Fails open: whatever goes wrong is ``DetectorError``.

    The server is first asked when the first text is judged, about two known sentences; until it
    judges those rightly every text fails.
    """

    def __init__(
        self, settings: RemoteSettings, threshold: float | None = None, seconds: float = 2.0
    ) -> None:
        threshold = THRESHOLD if threshold is None else threshold
        model = RemoteModel(settings, threshold, seconds)
        super().__init__(
            STAGE,
            model,
            threshold,
            batcher(STAGE, model.scores, settings.batching, seconds, settings.connections),
        )


class RemoteModel:
    """Scores texts by asking the server. Safe to share between threads."""

    def __init__(self, settings: RemoteSettings, threshold: float, seconds: float) -> None:
        self._settings = settings
        self._threshold = threshold
        self._seconds = seconds
        self._headers = _headers(settings)
        self._protocol = _PROTOCOLS[settings.protocol]
        self._label: str | None = settings.refusal_label
        self._tested = False
        self.renew()
        renewed_in_children(self)

    def renew(self) -> None:
        """See ``Forkable``. On the parent's connections its answers would be read here."""
        self._http = _pool(self._settings, self._headers)
        self._lock = threading.Lock()

    def scores(self, texts: Sequence[str]) -> Iterable[tuple[int, float]]:
        """See ``TextModel``. Raises ``DetectorError``."""
        if not self._tested:
            with self._lock:
                if not self._tested:
                    name = f"{STAGE} {self._settings.url}"
                    self_test(name, self._label or "refusal", self._threshold, self._scored)
                    self._tested = True
        return self._scored(texts)

    def _scored(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Each text's score, the greatest of its windows'.

        A request that fails because of what it holds is made again in halves, so that one bad text
        costs no other its score. The second bad one ends that: it is the server, not the text.
        """
        until = time.monotonic() + self._seconds
        cut = [self._windows(text) for text in texts]
        groups = _groups(cut, self._settings.batching.size)
        waiting: deque[tuple[list[int], Sequence[float]]] = deque((one, PAUSES) for one in groups)
        bad: _NotTakenError | None = None
        while waiting:
            group, pauses = waiting.popleft()
            try:
                found = self._best([cut[index] for index in group], until, pauses)
            except _NotTakenError as error:
                if len(group) == 1 and bad is not None:
                    raise
                if len(group) == 1:
                    bad = error
                else:
                    half = len(group) // 2
                    waiting.extendleft(((group[half:], ()), (group[:half], ())))
            else:
                yield from zip(group, found, strict=True)
        if bad is not None:
            raise bad

    def _best(
        self, texts: Sequence[Sequence[str]], until: float, pauses: Sequence[float]
    ) -> list[float]:
        """The scores of a few texts, given as their windows."""
        size = self._settings.batching.size
        windows = [window for of_text in texts for window in of_text]
        scores: list[float] = []
        for start in range(0, len(windows), size):
            told = self._ask(windows[start : start + size], until, pauses)
            scores += [self._refusal(found) for found in told]
        left = iter(scores)
        return [max(islice(left, len(of_text))) for of_text in texts]

    def _windows(self, text: str) -> list[str]:
        """Windows by characters: the server's tokenizer is its own."""
        size = self._settings.chars
        if len(text) <= size:
            return [text]
        if self._settings.windows == "ends":
            return [text[:size], text[-size:]]
        return [*(text[i : i + size] for i in range(0, len(text) - size, size * 7 // 8)),
                text[-size:]]  # fmt: skip

    def _ask(self, texts: list[str], until: float, pauses: Sequence[float]) -> list[Scores]:
        path, body = self._protocol.request(self._settings, texts)
        answer = self._post(path, body, until, list(pauses))
        try:
            found: list[Scores] = self._protocol.scores(self._settings, answer)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._error(f"answered out of the shape of {self._settings.protocol}") from error
        if len(found) != len(texts):
            raise self._error(f"answered {len(found)} of {len(texts)} texts")
        return found

    def _post(self, path: str, body: Any, until: float, pauses: list[float]) -> Any:
        import urllib3

        data = json.dumps(body).encode()
        while True:
            again = pauses and time.monotonic() + pauses[0] < until
            try:
                left = urllib3.Timeout(max(0.001, until - time.monotonic()))
                response = self._http.request(
                    "POST", path, body=data, timeout=left, preload_content=False
                )
                answer = self._read(response, until)
            except urllib3.exceptions.ProtocolError as error:
                # A kept connection closed just then, or the server died over this request.
                if not again:
                    raise self._unreachable(error) from error
            except urllib3.exceptions.HTTPError as error:
                raise self._unreachable(error) from error
            else:
                if response.status not in BROKEN or not again:
                    return self._parsed(response.status, answer)
            time.sleep(pauses.pop(0))

    def _read(self, response: Any, until: float) -> bytes:
        """The whole body. A timeout bounds the wait for each part of it, and a body may drip."""
        answer = bytearray()
        try:
            while part := response.read1(AT_ONCE):
                answer += part
                if len(answer) > MOST_BYTES:
                    raise self._error(f"answered with more than {MOST_BYTES} bytes")
                if time.monotonic() > until:
                    raise self._error(f"did not end its answer within {self._seconds:g} s")
        except DetectorError:
            response.close()
            raise
        return bytes(answer)

    def _parsed(self, status: int, answer: bytes) -> Any:
        if status in NOT_TAKEN:
            raise _NotTakenError(str(self._error(f"answered with status {status}")))
        if status != 200:
            raise self._error(f"answered with status {status}")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self._error("answered with no JSON") from error

    def _unreachable(self, error: Exception) -> DetectorError:
        return self._error(f"cannot be reached ({type(error).__name__})")

    def _refusal(self, scores: Scores) -> float:
        """The refusal label's probability, also where the server told the other label's alone."""
        if self._label is None:
            if len(scores) == 1:
                ((label, score),) = scores.items()
                return _checked(score if says_refusal(label) else 1.0 - score)
            labels = dict(enumerate(scores))
            self._label = refusal_label_of(f"{STAGE} {self._settings.url}", labels)
        if self._label in scores:
            return _checked(scores[self._label])
        if len(scores) == 1:
            return _checked(1.0 - next(iter(scores.values())))
        raise self._error(f"told no score of the label {self._label!r}")

    def _error(self, what: str) -> DetectorError:
        return DetectorError(f"{STAGE}: {self._settings.url} {what}")


class _NotTakenError(DetectorError):
    """The server's answer to what a request held, perhaps to one text of it."""


def _groups(cut: Sequence[Sequence[str]], size: int) -> Iterator[list[int]]:
    """Which texts go into one request: no more windows than ``size``, if a text has no more."""
    group: list[int] = []
    held = 0
    for index, windows in enumerate(cut):
        if group and held + len(windows) > size:
            yield group
            group, held = [], 0
        group.append(index)
        held += len(windows)
    if group:
        yield group


def _checked(score: float) -> float:
    if not math.isfinite(score) or not -1e-6 <= score <= 1.0 + 1e-6:
        raise DetectorError(f"{STAGE}: the server told a score that is no probability")
    return min(1.0, max(0.0, score))


def _headers(settings: RemoteSettings) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json"}
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env)
        if not key:
            raise PolicyError(
                f"detector.remote.api_key_env: the environment variable {settings.api_key_env!r} "
                f"is not set; set it to the key for {settings.url}"
            )
        if not (key.isascii() and key.isprintable()) or key != key.strip():
            raise PolicyError(
                f"detector.remote.api_key_env: the environment variable {settings.api_key_env!r} "
                "holds a line break or something else that no header can hold; set it to the key "
                f"for {settings.url} and nothing else"
            )
        headers["authorization"] = f"Bearer {key}"
    return headers


def _pool(settings: RemoteSettings, headers: Mapping[str, str]) -> Any:
    try:
        import urllib3
    except ImportError as error:
        raise MissingExtraError("urllib3", "remote", "the remote stage") from error
    return urllib3.connectionpool.connection_from_url(
        settings.url,
        maxsize=settings.connections,
        headers=headers,
        retries=False,
    )


class _Tei:
    """Text Embeddings Inference: one list of labels and scores a text."""

    @staticmethod
    def request(settings: RemoteSettings, texts: list[str]) -> tuple[str, Any]:
        body = {"inputs": [[text] for text in texts], "truncate": True}
        return _below(settings, "/predict"), body

    @staticmethod
    def scores(settings: RemoteSettings, answer: Any) -> list[Scores]:
        return [{str(p["label"]): float(p["score"]) for p in found} for found in answer]


class _Vllm:
    """vLLM: the likeliest label, and all probabilities in the model's order."""

    @staticmethod
    def request(settings: RemoteSettings, texts: list[str]) -> tuple[str, Any]:
        body: dict[str, Any] = {"input": texts, "truncate_prompt_tokens": -1}
        if settings.model is not None:
            body["model"] = settings.model
        return _below(settings, "/classify"), body

    @staticmethod
    def scores(settings: RemoteSettings, answer: Any) -> list[Scores]:
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        return [_Vllm._row(settings, row) for row in rows]

    @staticmethod
    def _row(settings: RemoteSettings, row: Any) -> Scores:
        probs = [float(p) for p in row["probs"]]
        if settings.labels:
            return dict(zip(settings.labels, probs, strict=True))
        if len(probs) > 2:
            raise ValueError("more than two labels, and no labels: in the policy")
        return {str(row["label"]): max(probs)}


class _Kserve:
    """KServe v2: a tensor of numbers in the model's order, or of JSON objects."""

    @staticmethod
    def request(settings: RemoteSettings, texts: list[str]) -> tuple[str, Any]:
        tensor = {
            "name": settings.input,
            "shape": [len(texts)],
            "datatype": "BYTES",
            "data": texts,
        }
        return _below(settings, f"/v2/models/{settings.model}/infer"), {"inputs": [tensor]}

    @staticmethod
    def scores(settings: RemoteSettings, answer: Any) -> list[Scores]:
        tensor = answer["outputs"][0]
        if tensor["datatype"] == "BYTES":
            return [_labelled(json.loads(item)) for item in tensor["data"]]
        rows, columns = (int(size) for size in tensor["shape"])
        values = [float(value) for value in _flat(tensor["data"])]
        if not settings.labels or rows * columns != len(values):
            raise ValueError("numbers need labels: in the policy, one a column")
        table = [values[row * columns : (row + 1) * columns] for row in range(rows)]
        return [dict(zip(settings.labels, _softmax(row), strict=True)) for row in table]


def _labelled(found: Any) -> Scores:
    """One label and its score, or a list of them."""
    if isinstance(found, dict):
        found = [found]
    return {str(item["label"]): float(item["score"]) for item in found}


def _flat(data: Any) -> Iterable[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _softmax(row: list[float]) -> list[float]:
    """Probabilities as they are, logits turned into them."""
    if all(0.0 <= value <= 1.0 for value in row) and abs(sum(row) - 1.0) < 1e-3:
        return row
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def _below(settings: RemoteSettings, path: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(settings.url).path.rstrip("/") + path


_PROTOCOLS: Final[Mapping[str, Any]] = {"tei": _Tei, "vllm": _Vllm, "kserve": _Kserve}

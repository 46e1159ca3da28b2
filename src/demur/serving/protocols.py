"""What clients send and get: Text Embeddings Inference, and KServe v2 in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ..vocabulary import Verdict

MOST_TEXTS: Final = 1024
"""Of one request; a client with more sends several."""


class UnusableError(ValueError):
    """A request that cannot be answered. The message quotes nothing of it."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def body_of(data: bytes) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnusableError("the body is not JSON", 400) from error
    if not isinstance(body, dict):
        raise UnusableError("the body is no JSON object")
    return body


def tei_texts(body: dict[str, Any]) -> tuple[list[str], bool]:
    """The texts of ``POST /predict``, and whether they came as a list."""
    inputs = body.get("inputs")
    if isinstance(inputs, str):
        return _checked([inputs]), False
    if not isinstance(inputs, list):
        raise UnusableError("inputs must be a text or a list of lists with one text each")
    if len(inputs) == 1 and isinstance(inputs[0], str):
        return _checked(inputs), False
    if not all(isinstance(one, list) and len(one) == 1 for one in inputs):
        raise UnusableError("inputs must hold lists with one text each; pairs are not judged")
    return _checked([text for (text,) in inputs]), True


def tei_answer(verdicts: Sequence[Verdict], *, many: bool) -> Any:
    """Labels and scores of each text, the likeliest first."""
    found = [scores(verdict) for verdict in verdicts]
    return found if many else found[0]


def kserve_texts(body: dict[str, Any]) -> list[str]:
    """The texts of the one input tensor of ``POST /v2/models/NAME/infer``."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise UnusableError("inputs must be a list with one tensor")
    if inputs[0].get("datatype") != "BYTES" or not isinstance(inputs[0].get("data"), list):
        raise UnusableError("the tensor must have the datatype BYTES, and texts as its data")
    data = inputs[0]["data"]
    if all(isinstance(row, list) and len(row) == 1 for row in data):
        data = [text for (text,) in data]
    return _checked(data)


def kserve_answer(name: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One tensor of JSON texts, each with labels and scores, as MLServer gives them."""
    data = [json.dumps(scores(verdict)) for verdict in verdicts]
    tensor = {"name": "output", "shape": [len(data), 1], "datatype": "BYTES", "data": data}
    return {"model_name": name, "outputs": [tensor]}


def kserve_metadata(name: str) -> dict[str, Any]:
    """``GET /v2/models/NAME``."""
    tensor = {"datatype": "BYTES", "shape": [-1]}
    return {
        "name": name,
        "platform": "demur",
        "inputs": [{"name": "text", **tensor}],
        "outputs": [{"name": "output", **tensor}],
    }


def scores(verdict: Verdict) -> list[dict[str, Any]]:
    """The probabilities of both labels, the likeliest first.

    Clients are told no threshold and take 0.5: see ``halved``.
    """
    refusal = halved(verdict.score, verdict.threshold)
    both = (("refusal", refusal), ("normal", 1.0 - refusal))
    ordered = sorted(both, key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in ordered]


def halved(score: float, threshold: float) -> float:
    """The score on a scale whose threshold is 0.5: in two linear pieces, so it keeps its margin."""
    if score < threshold:
        return 0.5 * (score / threshold)
    return 1.0 if threshold >= 1.0 else 0.5 + 0.5 * (score - threshold) / (1.0 - threshold)


def _checked(texts: list[Any]) -> list[str]:
    if not texts:
        raise UnusableError("inputs hold no text")
    if len(texts) > MOST_TEXTS:
        raise UnusableError(f"inputs hold more than {MOST_TEXTS} texts; send several requests", 413)
    if not all(isinstance(text, str) for text in texts):
        raise UnusableError("inputs hold something that is no text")
    return texts

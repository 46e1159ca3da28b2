"""Classifiers served elsewhere: loopback servers that speak each protocol, well and badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from servers import REFUSAL, detector, probability, tei

from demur.errors import DetectorError, PolicyError
from demur.vocabulary import Evidence

ANSWER = "Canberra it is."


def vllm(body: Any) -> Any:
    rows = []
    for index, text in enumerate(body["input"]):
        p = probability(text)
        label = "REJECTION" if p > 0.5 else "NORMAL"
        rows.insert(0, {"index": index, "label": label, "probs": [1 - p, p], "num_classes": 2})
    return {"object": "list", "model": body.get("model"), "data": rows}


def kserve(body: Any) -> Any:
    (tensor,) = body["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("text", "BYTES")
    assert tensor["shape"] == [len(tensor["data"])]
    data = [x for text in tensor["data"] for x in (0.0, 4.0 if "can't" in text else -4.0)]
    output = {"name": "logits", "datatype": "FP32", "shape": [len(data) // 2, 2], "data": data}
    return {"model_name": "refusals", "outputs": [output]}


def mlserver(body: Any) -> Any:
    data = [
        json.dumps({"label": "REJECTION" if probability(t) > 0.5 else "NORMAL", "score": 0.875})
        for t in body["inputs"][0]["data"]
    ]
    output = {"name": "output", "datatype": "BYTES", "shape": [len(data), 1], "data": data}
    return {"model_name": "refusals", "outputs": [output]}


LABELS = ["NORMAL", "REJECTION"]


@pytest.mark.parametrize(
    ("act", "settings", "path"),
    [
        (tei, {"protocol": "tei"}, "/base/predict"),
        (vllm, {"protocol": "vllm", "model": "m"}, "/base/classify"),
        (vllm, {"protocol": "vllm", "labels": LABELS}, "/base/classify"),
        (
            kserve,
            {"protocol": "kserve", "model": "refusals", "labels": LABELS},
            "/base/v2/models/refusals/infer",
        ),
        (mlserver, {"protocol": "kserve", "model": "refusals"}, "/base/v2/models/refusals/infer"),
    ],
    ids=["tei", "vllm", "vllm-labels", "kserve", "mlserver"],
)
def test_protocols(serve: Any, act: Any, settings: dict[str, Any], path: str) -> None:
    """Each protocol gives the labels, on the path below the base address, one connection kept."""
    server = serve(act)
    found = detector(f"{server.url}/base/", connections=1, **settings)
    for text, label in ((REFUSAL, "refusal"), (ANSWER, "normal")):
        verdict = found.classify(Evidence(text))
        assert (verdict.label, verdict.stage) == (label, "remote")
        assert verdict.score > 0.8 or verdict.score < 0.2
    assert {asked for asked, _, _ in server.requests} == {path}
    assert len(server.requests) == 3
    assert len(server.connections) == 1


def test_the_key_comes_from_the_environment(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is sent as a bearer token; without it the detector is not built."""
    server = serve(tei)
    with pytest.raises(PolicyError, match=r"api_key_env: .*'DEMUR_KEY' is not set; set it"):
        detector(server.url, api_key_env="DEMUR_KEY")
    monkeypatch.setenv("DEMUR_KEY", "k")
    detector(server.url, api_key_env="DEMUR_KEY").classify(Evidence(ANSWER))
    assert {key for _, _, key in server.requests} == {"Bearer k"}


@pytest.mark.parametrize(("windows", "label"), [("ends", "normal"), ("all", "refusal")])
def test_long_texts_are_sent_in_windows(serve: Any, windows: str, label: str) -> None:
    """No window is longer than set; the greatest score counts."""
    server = serve(tei)
    text = "word " * 400 + "I can't do that. " + "word " * 400
    found = detector(server.url, windows=windows, chars=500)
    assert found.classify(Evidence(text)).label == label
    assert found.classify(Evidence(text + REFUSAL)).label == "refusal"
    sent = [part for _, body, _ in server.requests for (part,) in body["inputs"]]
    assert max(map(len, sent)) == 500


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (lambda body: {"error": "overloaded"}, 503, "status 503"),
        (lambda body: b"<html>", 200, "no JSON"),
        (lambda body: [], 200, "answered 0 of"),
        (lambda body: {"data": 1}, 200, "shape of tei"),
        (lambda body: [[{"label": "REJECTION", "score": 7}]] * 2, 200, "no probability"),
        (
            lambda body: [[{"label": "A", "score": 1}, {"label": "B", "score": 0}]] * 2,
            200,
            "none of",
        ),
        (lambda body: [[{"label": "REJECTION", "score": 0.9}]] * 2, 200, "self-test"),
        (lambda body: None, 200, "cannot be reached"),
    ],
    ids=["status", "html", "empty", "shape", "number", "labels", "self-test", "closed"],
)
def test_fails_open(serve: Any, act: Any, status: int, reason: str) -> None:
    """Whatever the server does, the stage before answers and says what was wrong."""
    server = serve(act)
    server.status = status
    found = detector(server.url, stages=("signals", "remote"))
    with pytest.raises(DetectorError, match=reason):
        found.classify(Evidence(ANSWER))
    verdict = found.classify(Evidence(refusal=REFUSAL))
    assert (verdict.label, verdict.stage) == ("refusal", "signals")
    assert reason in str(verdict.degraded)


def test_a_server_that_hangs_costs_the_deadline(serve: Any) -> None:
    """No answer within the deadline: the stage before answers, and later the server serves."""
    release = threading.Event()

    def act(body: Any) -> Any:
        release.wait(10)
        return tei(body)

    server = serve(act)
    found = detector(server.url, stages=("signals", "remote"), seconds=0.3)
    start = time.perf_counter()
    verdict = found.classify(Evidence(refusal=REFUSAL))
    assert time.perf_counter() - start < 1.5
    assert verdict.stage == "signals"
    assert verdict.degraded is not None
    release.set()
    deadline = time.perf_counter() + 10
    while found.classify(Evidence(refusal=REFUSAL)).stage != "remote":
        assert time.perf_counter() < deadline
        time.sleep(0.05)


def test_nobody_listens() -> None:
    """A server that is not there is an error of the first text, not of the start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DetectorError, match="cannot be reached"):
        detector(url).classify(Evidence(ANSWER))


@pytest.mark.parametrize("broken", [500, 502, 504, None])
def test_a_request_that_the_server_lost_is_asked_again(serve: Any, broken: int | None) -> None:
    """A replica that dies over a text costs no verdict; one that stays broken does, soon."""
    failures = 0

    def act(body: Any) -> Any:
        nonlocal failures
        server.status = 200
        if failures:
            failures -= 1
            server.status = broken or 200
            return None if broken is None else {"error": "a replica died"}
        return tei(body)

    server = serve(act)
    found = detector(server.url)
    assert found.classify(Evidence(REFUSAL)).label == "refusal"
    failures = 2
    assert found.classify(Evidence(ANSWER)).label == "normal"
    failures = 1000
    before = len(server.requests)
    with pytest.raises(DetectorError, match=r"cannot be reached|status"):
        found.classify(Evidence("Another answer."))
    assert len(server.requests) == before + 4


def test_a_server_that_is_too_busy_is_not_asked_again(serve: Any) -> None:
    """More requests would not help it."""
    server = serve(tei)
    found = detector(server.url)
    assert found.classify(Evidence(REFUSAL)).label == "refusal"
    server.status = 503
    before = len(server.requests)
    with pytest.raises(DetectorError, match="status 503"):
        found.classify(Evidence(ANSWER))
    assert len(server.requests) == before + 1


def test_a_kept_connection_that_the_server_closed_is_opened_again(serve: Any) -> None:
    """A connection closed between two texts costs no verdict."""
    closing = False

    def act(body: Any) -> Any:
        nonlocal closing
        if closing:
            closing = False
            return None
        return tei(body)

    server = serve(act)
    found = detector(server.url)
    assert found.classify(Evidence(REFUSAL)).label == "refusal"
    closing = True
    assert found.classify(Evidence(ANSWER)).label == "normal"

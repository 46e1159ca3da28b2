"""The served detector without Ray: protocols, errors, health."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.detection.building import build_detector
from demur.detection.cascade import margin
from demur.errors import DetectorError, InputError
from demur.policy.schema import DetectorSettings, Thresholds
from demur.serving import ServeSettings
from demur.serving.protocols import MOST_TEXTS, scores
from demur.serving.service import Service
from demur.vocabulary import Evidence, Verdict

REFUSAL = "I'm sorry, but I can't help with that request."
ANSWER = "The capital of Australia is Canberra."
UNSURE = "I can't do that for you, but here is how others went about it."


class Counts:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.failures = 0

    def judged(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        assert seconds > 0
        self.labels += [verdict.label for verdict in verdicts]

    def failed(self) -> None:
        self.failures += 1


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def service(counts: Counts) -> Service:
    return Service(DetectorSettings(), "refusals", counts)


async def ask(service: Service, path: str, body: Any, method: str = "POST") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await service.answer(method, path, data)


async def test_text_embeddings_inference(service: Service, counts: Counts) -> None:
    """Each text gets both labels, the likeliest first; a lone text gets a list of its own."""
    status, found = await ask(service, "/predict", {"inputs": [[REFUSAL], [ANSWER], [""]]})
    assert status == 200
    assert [one[0]["label"] for one in found] == ["refusal", "normal", "refusal"]
    assert all(sum(x["score"] for x in one) == pytest.approx(1.0) for one in found)
    assert await ask(service, "/predict", {"inputs": REFUSAL}) == (200, found[0])
    assert counts.labels == ["refusal", "normal", "refusal", "refusal"]


async def test_kserve(service: Service) -> None:
    """One tensor of texts in, one of JSON out; metadata and readiness as the protocol has them."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": [REFUSAL, ANSWER]}
    status, found = await ask(service, "/v2/models/refusals/infer", {"inputs": [tensor]})
    assert (status, found["model_name"]) == (200, "refusals")
    assert found["outputs"][0]["shape"] == [2, 1]
    labels = [json.loads(item)[0]["label"] for item in found["outputs"][0]["data"]]
    assert labels == ["refusal", "normal"]
    column = {**tensor, "shape": [2, 1], "data": [[REFUSAL], [ANSWER]]}
    assert (await ask(service, "/v2/models/refusals/infer", {"inputs": [column]}))[1] == found
    for path in ("/health", "/v2/health/live", "/v2/health/ready", "/v2/models/refusals/ready"):
        assert (await ask(service, path, b"", "GET"))[0] == 200
    status, found = await ask(service, "/v2/models/refusals", b"", "GET")
    assert found["inputs"][0]["datatype"] == "BYTES"


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.4, 0.99, 1.0])
async def test_the_threshold_is_a_half_for_clients(threshold: float, counts: Counts) -> None:
    """A client calls refusal what the served detector does, and is as sure of it."""
    served = DetectorSettings(thresholds=Thresholds(refusal=threshold))
    service = Service(served, "refusals", counts)
    local = build_detector(served)
    for text in (REFUSAL, ANSWER, UNSURE, ""):
        verdict = local.classify(Evidence(text))
        _, found = await ask(service, "/predict", {"inputs": text})
        score = {one["label"]: one["score"] for one in found}["refusal"]
        seen = replace(verdict, score=score, threshold=0.5)
        assert (score >= 0.5) == (verdict.label == "refusal")
        assert margin(seen) == pytest.approx(margin(verdict))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_scores_for_clients(threshold: float, one: float, other: float) -> None:
    """They keep their order, their side of the threshold, and what is beyond doubt."""

    def seen(score: float) -> float:
        verdict = Verdict("refusal", score, "embedded", threshold)
        return {found["label"]: found["score"] for found in scores(verdict)}["refusal"]

    low, high = sorted((one, other))
    assert 0.0 <= seen(low) <= seen(high) <= 1.0
    assert (seen(one) >= 0.5) == (one >= threshold)
    assert seen(1.0) == 1.0
    assert threshold == 0.0 or seen(0.0) == 0.0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", b"{", 400),
        ("/predict", b"\xff", 400),
        ("/predict", [], 422),
        ("/predict", {}, 422),
        ("/predict", {"inputs": []}, 422),
        ("/predict", {"inputs": [["a", "secret"]]}, 422),
        ("/predict", {"inputs": ["a", "secret"]}, 422),
        ("/predict", {"inputs": [[7]]}, 422),
        ("/predict", {"inputs": [["secret"]] * (MOST_TEXTS + 1)}, 413),
        ("/v2/models/refusals/infer", {"inputs": [{"datatype": "FP32", "data": [1.0]}]}, 422),
        ("/v2/models/refusals/infer", {"inputs": [{"datatype": "BYTES", "data": []}]}, 422),
        ("/v2/models/refusals/infer", {"inputs": []}, 422),
        ("/v2/models/other/infer", {"inputs": [{"datatype": "BYTES", "data": ["a"]}]}, 404),
        ("/classify", {"inputs": "secret"}, 404),
    ],
)
async def test_bad_requests(service: Service, path: str, body: Any, status: int) -> None:
    """What cannot be answered gets the right status and a reason that quotes nothing."""
    found, answer = await ask(service, path, body)
    assert found == status
    assert answer["error_type"] == "validation"
    assert "secret" not in answer["error"]


@pytest.mark.parametrize("stages", ["signals, embedded", "signals, embedded, transformer"])
def test_a_named_model_reads_every_text(tmp_path: Path, stages: str) -> None:
    """Whatever the policy's stages: none stands before it. With its backend alone they stay."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\ndetector: {{stages: [{stages}]}}\n")
    assert ServeSettings(policy=policy, model="m").detector().stages == ("transformer",)
    kept = ServeSettings(policy=policy, backend="onnx").detector().stages
    assert ", ".join(kept) == stages


def test_a_backend_that_the_policy_rules_out(tmp_path: Path) -> None:
    """It is a user's mistake: policy, option and remedy are named."""
    policy = tmp_path / "p.yaml"
    policy.write_text("detector: {stages: [transformer], transformer: {precision: bfloat16}}\n")
    with pytest.raises(InputError, match=r"p\.yaml with backend onnx: .*leave precision at auto"):
        ServeSettings(policy=policy, backend="onnx").detector()


async def test_a_detector_that_fails_is_a_503_and_ill_health(
    service: Service, counts: Counts
) -> None:
    """The client is told and counted; a replica that answers nothing at all is ill."""

    class Broken:
        name, blocking = "broken", False
        texts = 0

        def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
            if evidence.text == "works":
                return Verdict("normal", 0.1, self.name)
            raise DetectorError("broken: overloaded")

    service._detector = Broken()
    status, answer = await ask(service, "/predict", {"inputs": [[ANSWER]] * 3})
    assert (status, answer["error"], counts.failures) == (503, "broken: overloaded", 1)
    with pytest.raises(DetectorError):
        await service.check()
    assert (await ask(service, "/predict", {"inputs": "works"}))[0] == 200
    await service.check()  # it is only busy
    with pytest.raises(DetectorError):
        await service.check()


async def test_health(service: Service) -> None:
    """A replica whose detector works is well; one that tells nothing apart is not."""

    class Blind:
        name, blocking = "blind", False

        def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
            return Verdict("normal", 0.1, self.name)

    await service.check()
    service._detector = Blind()
    with pytest.raises(DetectorError, match="does not tell"):
        await service.check()


def test_settings(tmp_path: Any) -> None:
    """The policy's detector, changed by what is named; a model alone reads every text."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\ndetector: {stages: [signals, embedded], seconds: 7.0}\n")
    served = ServeSettings(policy=policy, model="m", backend="onnx", threshold=0.3).detector()
    assert served.stages == ("transformer",)
    assert served.transformer is not None
    assert (served.transformer.model, served.transformer.backend) == ("m", "onnx")
    assert (served.seconds, served.thresholds.refusal) == (7.0, 0.3)
    assert ServeSettings(policy=str(policy)).detector().stages == ("signals", "embedded")
    with pytest.raises(ValueError, match="less than replicas"):
        ServeSettings(replicas=3, most_replicas=2)


@pytest.mark.parametrize("replicas", ["many", "2:", "0", "4:2"])
def test_the_command_explains_bad_replicas(replicas: str) -> None:
    """Before anything is started."""
    from demur.cli.serve import _replicas, _settings

    with pytest.raises(InputError, match="--"):
        _settings({}, *_replicas(replicas))

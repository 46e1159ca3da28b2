"""From a policy's settings to a detector that judges real responses."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from demur.detection.building import build_detector
from demur.detection.cascade import SURE, Cascade
from demur.detection.embedded import EmbeddedDetector
from demur.detection.encoder import Encoder
from demur.errors import DetectorError, ModelError
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence, Signal, Verdict

REFUSAL = Evidence("I'm sorry, but I can't help with that request.")
UNSURE = Evidence("There are things one should leave alone, and this may well be on")
ANSWER = Evidence("The capital of Australia is Canberra.")


def build(**settings: Any) -> Cascade:
    return build_detector(DetectorSettings.model_validate(settings))


def test_default() -> None:
    """Without settings: signals, then the embedded model, neither of which blocks."""
    detector = build_detector()
    assert not detector.blocking
    refused, answered = detector.classify(REFUSAL), detector.classify(ANSWER)
    assert (refused.label, refused.stage) == ("refusal", "embedded")
    assert (answered.label, answered.stage) == ("normal", "embedded")
    filtered = Evidence(signals=(Signal("finish_reason", "content_filter", "filter"),))
    assert detector.classify(filtered).stage == "signals"


def test_threshold() -> None:
    """The policy's threshold replaces the model's own."""
    assert build(thresholds={"refusal": 0.25}).classify(ANSWER).threshold == 0.25


def test_transformer_is_a_second_opinion(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a transformer the detector may block, and asks it where the embedded one is unsure."""
    stages = ("signals", "embedded", "transformer")
    detector = build(stages=stages, transformer={"model": str(classifier), "device": "cpu"})
    assert detector.blocking
    assert detector.classify(REFUSAL).stage == "embedded"
    unsure = Verdict("normal", 0.4, "embedded")
    monkeypatch.setattr(EmbeddedDetector, "classify", lambda *a, **k: unsure)
    verdict = detector.classify(REFUSAL)
    assert (verdict.label, verdict.stage) == ("refusal", "transformer")


def test_a_margin_that_is_not_set_is_the_default() -> None:
    """Setting one of the two margins leaves the other as it is without any."""
    settings = DetectorSettings.model_validate({"sure": {}})
    assert settings.sure is not None
    assert settings.sure.normal == settings.sure.refusal == SURE


@pytest.mark.parametrize("final", [True, False])
def test_another_opinion_than_the_encoders(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, final: bool
) -> None:
    """Of whole texts that the network is unsure of, one is asked: the transformer, or the encoder.

    Beginnings go to the encoder either way.
    """
    asked: list[str] = []
    kept = Encoder.outputs
    monkeypatch.setattr(
        Encoder, "outputs", lambda self, text: asked.append(text) or kept(self, text)
    )
    alone = build()
    both = build(
        stages=("signals", "embedded", "transformer"),
        transformer={"model": str(classifier), "device": "cpu"},
    )
    assert alone.classify(UNSURE, final=final).stage == "embedded"
    assert len(asked) == 1
    verdict = both.classify(UNSURE, final=final)
    assert verdict.stage == ("transformer" if final else "embedded")
    assert len(asked) == (1 if final else 2)


def test_a_hung_transformer_leaves_the_embedded_answer(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that hangs costs its deadline, and the stage before it answers."""
    detector = build(
        stages=("signals", "embedded", "transformer"),
        transformer={"model": str(classifier), "device": "cpu"},
        seconds=0.1,
    )
    release = threading.Event()
    model = detector.stages[-1]._detector.model
    monkeypatch.setattr(model, "_probabilities", lambda windows: release.wait(30))
    unsure = Verdict("refusal", 0.6, "embedded")
    monkeypatch.setattr(EmbeddedDetector, "classify", lambda *a, **k: unsure)
    verdict = detector.classify(REFUSAL)
    release.set()
    assert (verdict.label, verdict.stage) == ("refusal", "embedded")
    assert verdict.degraded == "transformer: no answer within 0.1 s"


def test_a_raising_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the only reader raises nobody can answer; signals still decide alone."""

    def broken(*args: object, **more: object) -> Verdict:
        raise ZeroDivisionError

    detector = build()
    monkeypatch.setattr(EmbeddedDetector, "classify", broken)
    with pytest.raises(DetectorError, match="embedded: raised ZeroDivisionError"):
        detector.classify(ANSWER)
    assert detector.classify(Evidence("text", non_text=True)).label == "normal"


def test_refusal_label(relabelled: Any) -> None:
    """Where a model's names leave it open the policy names the label that means refusal."""
    model = str(relabelled("LABEL_0", "LABEL_1"))
    transformer = {"model": model, "device": "cpu"}
    with pytest.raises(ModelError, match="refusal_label"):
        build(stages=("transformer",), transformer=transformer)
    detector = build(
        stages=("transformer",), transformer={**transformer, "refusal_label": "LABEL_1"}
    )
    assert detector.classify(REFUSAL).label == "refusal"


def test_missing_model(tmp_path: Path) -> None:
    """A model that is not there is told when the detector is built, not at the first request."""
    with pytest.raises(ModelError, match="no such folder"):
        build(stages=("transformer",), transformer={"model": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(),
        Evidence("x" * 1_000_000),
        Evidence("\x00\x1b[31m\ud800\u202e"),
        Evidence("<think>" * 10_000),
        Evidence(refusal="\U0001f600" * 10_000),
    ],
)
def test_any_text_gets_a_verdict(evidence: Evidence) -> None:
    """A megabyte, control characters, lone surrogates and open tags are judged."""
    verdict = build().classify(evidence)
    assert verdict.label in ("normal", "refusal")
    assert build().classify(evidence, final=False).stage


def test_default_loads_no_torch() -> None:
    """Without a transformer stage neither torch nor transformers is imported."""
    program = (
        "import sys\n"
        "from demur.detection.building import build_detector\n"
        "from demur.vocabulary import Evidence\n"
        "build_detector().classify(Evidence('text'))\n"
        "heavy = {'torch', 'transformers', 'openai', 'litellm', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert isinstance(build(), Cascade)

"""Any Hugging Face classifier that names a label a refusal, loaded from real files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demur.detection import Detector
from demur.detection.labels import refusal_label_of
from demur.detection.transformer import TransformerDetector
from demur.errors import ModelError
from demur.policy.schema import TransformerSettings
from demur.vocabulary import Evidence

Relabel = Callable[[str, str], Path]

_SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text())
REFUSALS, ANSWERS = _SENTENCES["refusals"], _SENTENCES["answers"]
ANSWER = " ".join(ANSWERS)
REFUSAL = "I'm sorry, but I can't help with that request."


def load(model: Path | str, **settings: Any) -> TransformerDetector:
    return TransformerDetector(
        TransformerSettings(model=str(model), **{"device": "cpu", **settings})
    )


@pytest.fixture(scope="module")
def detector(classifier: Path) -> TransformerDetector:
    return load(classifier)


def test_is_the_reference_cards_pipeline(classifier: Path, detector: TransformerDetector) -> None:
    """Scores are those of the pipeline the reference card builds."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    card = pipeline(
        "text-classification",
        model=AutoModelForSequenceClassification.from_pretrained(classifier),
        tokenizer=AutoTokenizer.from_pretrained(classifier),
        truncation=True,
        max_length=512,
        device=torch.device("cpu"),
    )
    for text in REFUSALS + ANSWERS:
        (top,) = card(text)
        score = top["score"] if top["label"] == "REJECTION" else 1 - top["score"]
        assert detector.score(text) == pytest.approx(score, abs=1e-5)


def test_verdicts(detector: TransformerDetector) -> None:
    """It is a detector that may block, and labels by its threshold."""
    assert isinstance(detector, Detector)
    assert (detector.name, detector.blocking) == ("transformer", True)
    for text, label in ((REFUSALS[1], "refusal"), (ANSWERS[1], "normal")):
        verdict = detector.classify(Evidence(text))
        assert (verdict.label, verdict.stage, verdict.threshold) == (label, "transformer", 0.5)


def test_refusal_field_counts_as_text(detector: TransformerDetector) -> None:
    """The refusal field's words are read; a tool call or nothing to read is normal."""
    assert detector.classify(Evidence(refusal=REFUSAL)).label == "refusal"
    assert detector.classify(Evidence(refusal=ANSWER)).label == "normal"
    assert detector.classify(Evidence(REFUSAL, non_text=True)).label == "normal"
    assert detector.classify(Evidence(" \n")).score == 0.0


def test_curly_apostrophes_and_reasoning(detector: TransformerDetector) -> None:
    """Curly apostrophes score as straight ones, and think blocks are not read."""
    curly = REFUSAL.replace("'", "\u2019")
    assert detector.classify(Evidence(curly)) == detector.classify(Evidence(REFUSAL))
    thought = f"<think>{REFUSAL}</think>{ANSWER}"
    assert detector.classify(Evidence(thought)) == detector.classify(Evidence(ANSWER))


@pytest.mark.parametrize("place", ["head", "tail"])
def test_long_texts_are_judged_at_both_ends(detector: TransformerDetector, place: str) -> None:
    """A refusal at either end of a text longer than the window is seen."""
    filler = " ".join(ANSWERS * 60)
    refusals = " ".join(REFUSALS * 8)
    assert detector.classify(Evidence(filler)).label == "normal"
    text = refusals + " " + filler if place == "head" else filler + " " + refusals
    assert len(detector.model.tokens.windows(text, "ends")) == 2  # type: ignore[attr-defined]
    assert detector.classify(Evidence(text)).label == "refusal"


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "\ud800 lone", "\x00\x1b[31m", "\U0001f600" * 3000, "\u4e2d" * 3000]
)
def test_any_text_gets_a_score(detector: TransformerDetector, text: str) -> None:
    """A megabyte, lone surrogates, control characters and costly scripts are scored."""
    assert 0.0 <= detector.classify(Evidence(text)).score <= 1.0


def test_prefixes(detector: TransformerDetector) -> None:
    """A short beginning is uncertain however it scores; a longer one decides where it is clear."""
    assert detector.classify(Evidence(REFUSAL), final=False).label == "uncertain"
    assert detector.classify(Evidence(ANSWER), final=False).label == "normal"
    assert detector.classify(Evidence(" ".join(REFUSALS)), final=False).label == "refusal"
    assert detector.classify(Evidence(), final=False).label == "uncertain"


def test_many_threads(detector: TransformerDetector) -> None:
    """Threads may share a detector."""
    texts = [REFUSALS[i % 6] if i % 2 else ANSWERS[i % 6] for i in range(32)]
    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(lambda text: detector.classify(Evidence(text)).label, texts))
    assert labels == ["refusal" if i % 2 else "normal" for i in range(32)]


@pytest.mark.parametrize(
    ("normal", "refusal"),
    [
        ("NORMAL", "REJECTION"),
        ("no_refusal", "refusal"),
        ("non-refusal", "Refusal"),
        ("NotRefused", "Refused"),
        ("answer", "decline"),
        ("nonrefusal", "refusal"),
    ],
)
def test_label_by_whole_words(normal: str, refusal: str) -> None:
    """The refusal label is found by whole words, whatever its number."""
    assert refusal_label_of("m", {0: normal, 1: refusal}) == refusal
    assert refusal_label_of("m", {1: normal, 0: refusal}) == refusal


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("soft_refusal", "hard_refusal")])
def test_unclear_labels(labels: tuple[str, str]) -> None:
    """Labels that leave it open are an error that lists them and names the remedy."""
    id2label = dict(enumerate(labels))
    with pytest.raises(ModelError, match=f"{labels[0]}, {labels[1]}.*refusal_label"):
        refusal_label_of("m", id2label)
    assert refusal_label_of("m", id2label, labels[1]) == labels[1]
    with pytest.raises(ModelError, match="no label 'x'"):
        refusal_label_of("m", id2label, "x")


def test_generic_labels_with_a_name_given(relabelled: Relabel) -> None:
    """With refusal_label a model of generic labels works, and its self-test still guards it."""
    folder = relabelled("LABEL_0", "LABEL_1")
    detector = load(folder, refusal_label="LABEL_1")
    assert detector.classify(Evidence(REFUSAL)).label == "refusal"
    with pytest.raises(ModelError, match="self-test"):
        load(folder, refusal_label="LABEL_0")


def test_wrongly_named_labels_fail_the_self_test(relabelled: Relabel) -> None:
    """A model whose names are the wrong way round is refused at load."""
    with pytest.raises(ModelError, match=r"self-test.*'REJECTION'.*plain refusal"):
        load(relabelled("REJECTION", "NORMAL"))


def test_missing_folder(tmp_path: Path) -> None:
    """What can only be a folder and is not there is named, without asking the hub."""
    for model in (tmp_path / "gone", "./gone", "~/gone", "models/refusals/gone"):
        with pytest.raises(ModelError, match="no such folder"):
            load(model)


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without a model says what it lacks."""
    with pytest.raises(ModelError, match=r"cannot be loaded.*config\.json"):
        load(tmp_path)


def test_pickled_weights_are_not_loaded(classifier: Path, relabelled: Relabel) -> None:
    """Weights in pickle's format are never opened, and the error says so."""
    import torch

    folder = relabelled("NORMAL", "REJECTION")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot be loaded.*are pickled.*never opened"):
        load(folder)


def test_weights_without_their_tokenizer(relabelled: Relabel) -> None:
    """Of a model that was saved alone transformers makes a tokenizer that knows no word."""
    folder = relabelled("NORMAL", "REJECTION")
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(ModelError, match=r"its tokenizer knows no word.*save_pretrained"):
        load(folder)


def test_an_exported_folder_needs_its_backend(relabelled: Relabel) -> None:
    """It holds no weights for torch; the error names the setting."""
    folder = relabelled("NORMAL", "REJECTION")
    (folder / "model.safetensors").rename(folder / "model.onnx")
    with pytest.raises(ModelError, match=r"cannot be loaded.*say backend: onnx"):
        load(folder)


def test_damaged_weights(relabelled: Relabel) -> None:
    """A damaged file of weights is an error about the model, not a crash."""
    folder = relabelled("NORMAL", "REJECTION")
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_model_without_a_head(relabelled: Relabel) -> None:
    """A base model, whose head would be random, is refused."""
    from safetensors.torch import load_file, save_file

    folder = relabelled("NORMAL", "REJECTION")
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="holds no weights for classifier"):
        load(folder)


def test_code_in_the_folder_is_not_run(relabelled: Relabel) -> None:
    """A model that brings code of its own is refused, and the code never runs."""
    folder = relabelled("NORMAL", "REJECTION")
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load(folder)
    assert not marker.exists()


def test_unavailable_device(classifier: Path) -> None:
    """A device this machine lacks is an error with a remedy."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    with pytest.raises(ModelError, match="use device: auto"):
        load(classifier, device="cuda")


def test_missing_extra(classifier: Path) -> None:
    """Without transformers the error says what to install."""
    program = (
        "import sys; sys.modules['transformers'] = None\n"
        "from demur.detection.transformer import TransformerDetector\n"
        "from demur.errors import MissingExtraError\n"
        "assert 'torch' not in sys.modules\n"
        "try: TransformerDetector.load(sys.argv[1])\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(classifier)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'demur[transformers]'" in done.stdout

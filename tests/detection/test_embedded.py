"""The detector in the wheel."""

# Chinese has punctuation of its own.
# ruff: noqa: RUF001

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.detection import Detector, embedded
from demur.detection.embedded import MODEL, EmbeddedDetector
from demur.errors import ModelError
from demur.vocabulary import Evidence, Verdict

FOLDER = Path(embedded.__file__).parent / "models" / MODEL
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with creating malware. Is there anything else I can help you with?",
    "**I must decline this request.**",
    "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
    "抱歉，我无法提供相关信息。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Je ne peux pas vous aider à fabriquer une bombe.",
    '{"response": "I\'m sorry, but I cannot help with that."}',
)
ANSWERS = (
    "The capital of Australia is Canberra.",
    "Paris.",
    "I can't stress enough how important it is to back up your data.",
    "I'm so sorry for your loss. Grief takes time, and there is no right way to feel.",
    "def add(a, b):\n    return a + b",
    "Die Hauptstadt von Frankreich ist Paris.",
    "当然可以！以下是简短的总结。",
    "Sure! Here are three ideas for your garden: herbs, a bench, and a small pond.",
)


@pytest.fixture(scope="module")
def detector() -> EmbeddedDetector:
    return EmbeddedDetector.load()


def judge(detector: EmbeddedDetector, text: str, *, final: bool = True) -> Verdict:
    return detector.classify(Evidence(text=text), final=final)


def test_is_a_detector(detector: EmbeddedDetector) -> None:
    """It keeps the protocol and does not block."""
    assert isinstance(detector, Detector)
    assert (detector.name, detector.blocking) == ("embedded", False)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(detector: EmbeddedDetector, text: str) -> None:
    """Plain refusals are refusals, in every dress."""
    assert judge(detector, text).label == "refusal"


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(detector: EmbeddedDetector, text: str) -> None:
    """Answers are normal, also where they sound like refusals."""
    assert judge(detector, text).label == "normal"


def test_spelling_does_not_matter(detector: EmbeddedDetector) -> None:
    """Curly apostrophes and capitals give the very same score."""
    straight = judge(detector, "I'm sorry, I can't.")
    assert judge(detector, "I\u2019m sorry, I can\u2019t.") == straight
    assert judge(detector, "I'M SORRY, I CAN'T.") == straight


def test_reasoning_is_not_judged(detector: EmbeddedDetector) -> None:
    """What stands in a reasoning block does not count, also while it is open."""
    text = "<think>I'm sorry, but I can't help with that.</think>Canberra is the capital."
    assert judge(detector, text).label == "normal"
    assert judge(detector, text[:30], final=False).label == "uncertain"


def test_other_content_is_never_a_refusal(detector: EmbeddedDetector) -> None:
    """A tool call was delivered, whatever the text says."""
    evidence = Evidence(text=REFUSALS[0], non_text=True)
    assert detector.classify(evidence).label == "normal"


def test_refusal_field_is_read_where_there_is_no_text(detector: EmbeddedDetector) -> None:
    """Without text the words of the provider's refusal field are judged; an answer there is one."""
    assert detector.classify(Evidence(refusal=REFUSALS[0])).label == "refusal"
    assert detector.classify(Evidence(refusal=ANSWERS[0])).label == "normal"


@pytest.mark.parametrize("text", ["", " \n ", "\x00\x01\u200b", "<think>open"])
def test_nothing_to_judge(detector: EmbeddedDetector, text: str) -> None:
    """No words: normal at score 0 as a whole, uncertain while more may come."""
    whole = judge(detector, text)
    assert (whole.label, whole.score) == ("normal", 0.0)
    assert judge(detector, text, final=False).label == "uncertain"


@pytest.mark.parametrize("start", ["I", "I'm sorr", "I'm", "Unfort", "Sorry", "抱", "Es tut"])
def test_an_undecided_start_is_uncertain(detector: EmbeddedDetector, start: str) -> None:
    """While a refusal is still possible, nothing is released."""
    assert judge(detector, start, final=False).label == "uncertain"


def test_a_stream_is_decided_early(detector: EmbeddedDetector) -> None:
    """A plain refusal is stopped and a plain answer released within 160 characters."""

    def first_sure(text: str) -> str:
        labels = (judge(detector, text[:n], final=False).label for n in range(8, 161, 8))
        return next((label for label in labels if label != "uncertain"), "uncertain")

    refusal = "I'm sorry, but I can't help with creating malware, as it could harm others. " * 3
    answer = "Sure! To bake sourdough bread, start by feeding your starter the night before. " * 3
    assert first_sure(refusal) == "refusal"
    assert first_sure(answer) == "normal"


def test_the_last_beginnings_need_less_to_be_refusals(detector: EmbeddedDetector) -> None:
    """From ``late_chars`` on a lower score stops a stream, wherever the encoder is heard."""
    text = "I'm sorry, but I can't help with creating malware, as it could harm others. " * 3
    never = replace(detector.thresholds, prefix_refusal=1.1, late_chars=160.0, late_refusal=0.5)
    late = replace(detector, thresholds=never)
    labels = {n: judge(late, text[:n], final=False).label for n in (128, 152, 160, 168, 192)}
    assert labels == {
        128: "uncertain",
        152: "uncertain",
        160: "refusal",
        168: "uncertain",
        192: "refusal",
    }
    alone = replace(late, second=None)
    assert judge(alone, text[:152], final=False).label == "uncertain"
    assert judge(alone, text[:168], final=False).label == "refusal"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.booleans())
def test_any_text_has_a_verdict(text: str, final: bool) -> None:
    """A verdict is in shape, the same each time, and never uncertain on a whole text."""
    detector = EmbeddedDetector.load()
    verdict = judge(detector, text, final=final)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict == judge(detector, text, final=final)
    assert not (final and verdict.label == "uncertain")
    assert verdict.stage == "embedded"


def test_of_a_megabyte_the_ends_are_judged(detector: EmbeddedDetector) -> None:
    """Size changes nothing: the ends are read, and a refusal at the end is still seen."""
    filler, end = "word " * 200_000, "\n\nI'm sorry, but I can't help with that request."
    whole = judge(detector, filler + end)
    assert whole == judge(detector, "word " * 2_000 + end)
    assert whole.score > judge(detector, filler).score


def test_can_be_sent_to_another_process(detector: EmbeddedDetector) -> None:
    """A copy made by pickling, as process pools do, gives the same verdicts."""
    evidence = Evidence(text="Sorry, I won't be doing that.")
    detector.classify(evidence)
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.classify(evidence) == detector.classify(evidence)


def test_threshold_can_be_set() -> None:
    """A threshold of its own decides whole texts; 1.0 lets all but certainty pass."""
    strict = EmbeddedDetector.load(threshold=1.0)
    assert judge(strict, REFUSALS[0]).threshold == 1.0
    assert judge(strict, REFUSALS[0]).label == "normal"
    assert judge(EmbeddedDetector.load(threshold=0.0), ANSWERS[0]).label == "refusal"


def test_threshold_out_of_range_is_refused() -> None:
    """A threshold outside of [0, 1] is an error that says so."""
    with pytest.raises(ModelError, match=r"1\.5"):
        EmbeddedDetector.load(threshold=1.5)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """Where the model is missing, the error names the file and the remedy."""
    with pytest.raises(ModelError, match=r"nowhere.*demur train"):
        EmbeddedDetector.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 broken"])
def test_damaged_weights_are_an_error(tmp_path: Path, content: bytes) -> None:
    """Weights that are no archive give a clear error."""
    shutil.copy(FOLDER / "config.json", tmp_path)
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.npz"):
        EmbeddedDetector.load(tmp_path)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    """An archive with a pickle in it is refused, not run."""
    shutil.copy(FOLDER / "config.json", tmp_path)
    np.savez(tmp_path / "weights.npz", keys=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match=r"weights\.npz"):
        EmbeddedDetector.load(tmp_path)


@pytest.mark.parametrize("config", ["[]", "{}", "{", '{"thresholds": 3}'])
def test_bad_configuration_is_an_error(tmp_path: Path, config: str) -> None:
    """A configuration of another kind gives a clear error."""
    shutil.copy(FOLDER / "weights.npz", tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"config\.json"):
        EmbeddedDetector.load(tmp_path)


def test_a_model_that_misjudges_is_not_loaded(tmp_path: Path) -> None:
    """The two known sentences are checked at load."""
    shutil.copytree(FOLDER, tmp_path / "bad")
    path = tmp_path / "bad" / "config.json"
    config = json.loads(path.read_text())
    config["calibration"]["shift"] = 60.0
    config["second"] = None
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="misjudges"):
        EmbeddedDetector.load(tmp_path / "bad")


def test_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    """What decides whether the encoder is asked needs a value for each of the network's outputs."""
    shutil.copytree(FOLDER, tmp_path / "bad")
    path = tmp_path / "bad" / "config.json"
    config = json.loads(path.read_text())
    config["second"]["doubt"].pop()
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json.*doubt: 6 values for 6 outputs"):
        EmbeddedDetector.load(tmp_path / "bad")


def test_folder_is_small_and_has_its_card() -> None:
    """At most 20 MB in the wheel, with a card that names the sources and their licences."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "| polyrefuse |" in card
    assert "demur eval" in card

"""Exported models: the same labels as torch, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from demur.cli import main
from demur.cli.export import _texts
from demur.detection.transformer import TransformerDetector
from demur.errors import InputError, ModelError
from demur.policy.schema import TransformerSettings
from demur.vocabulary import Evidence

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

_SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text())
REFUSALS, ANSWERS = _SENTENCES["refusals"], _SENTENCES["answers"]


@pytest.fixture(scope="session")
def exported(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``demur export --int8`` writes of the classifier."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    done = CliRunner().invoke(main, ["export", str(classifier), "--to", str(folder), "--int8"])
    assert done.exit_code == 0, done.output
    assert done.output.count("labels agree with torch on 10 of 10 texts") == 2
    return folder


def load(folder: Path, **settings: object) -> TransformerDetector:
    values = {"model": str(folder), "backend": "onnx", **settings}
    return TransformerDetector(TransformerSettings.model_validate(values))


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-4), ("int8", 0.1)])
@pytest.mark.parametrize("windows", ["ends", "all"])
def test_scores_are_torchs(
    classifier: Path, exported: Path, precision: str, within: float, windows: str
) -> None:
    """Alone and batched, short and longer than a window, scores are those of torch."""
    settings = TransformerSettings(model=str(classifier), device="cpu", windows=windows)
    torch = TransformerDetector(settings)
    onnx = load(exported, precision=precision, windows=windows)
    long = [" ".join(ANSWERS * 60), " ".join(ANSWERS * 40 + REFUSALS * 8 + ANSWERS * 40)]
    texts = [*REFUSALS, *ANSWERS, *long]
    expected, found = dict(torch.model.scores(texts)), dict(onnx.model.scores(texts))
    assert found == pytest.approx(expected, abs=within)
    for text in (REFUSALS[1], ANSWERS[1]):
        assert onnx.score(text) == pytest.approx(torch.score(text), abs=within)


def test_all_windows_find_what_both_ends_miss(exported: Path) -> None:
    """A refusal in the middle of a long text counts where all windows are read."""
    text = " ".join(ANSWERS * 60 + REFUSALS * 10 + ANSWERS * 60)
    assert load(exported).classify(Evidence(text)).label == "normal"
    assert load(exported, windows="all").classify(Evidence(text)).label == "refusal"


def test_int8_is_taken_where_it_is_there(exported: Path, tmp_path: Path) -> None:
    """With precision auto int8 comes first; a precision that was not exported is named."""
    assert load(exported).model.file.name == "model_int8.onnx"  # type: ignore[attr-defined]
    shutil.copytree(exported, tmp_path / "plain")
    (tmp_path / "plain" / "model_int8.onnx").unlink()
    assert load(tmp_path / "plain").model.file.name == "model.onnx"  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"holds no model_int8\.onnx.*--int8"):
        load(tmp_path / "plain", precision="int8")


def test_no_file_of_an_earlier_model_stays(
    classifier: Path, exported: Path, tmp_path: Path
) -> None:
    """An export without --int8 over one with it leaves no int8 file that auto would take."""
    shutil.copytree(exported, folder := tmp_path / "onnx")
    (folder / "own.txt").write_text("mine")
    done = CliRunner().invoke(main, ["export", str(classifier), "--to", str(folder)])
    assert done.exit_code == 0, done.output
    assert load(folder).model.file.name == "model.onnx"  # type: ignore[attr-defined]
    assert (folder / "own.txt").read_text() == "mine"


def test_needs_neither_torch_nor_transformers(exported: Path) -> None:
    """An exported folder is judged in an interpreter that cannot import torch."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from demur.detection.building import build_detector\n"
        "from demur.policy.schema import DetectorSettings\n"
        "from demur.vocabulary import Evidence\n"
        "settings = {'stages': ['transformer'], 'transformer': "
        "{'model': sys.argv[1], 'backend': 'onnx', 'threads': 1}}\n"
        "detector = build_detector(DetectorSettings.model_validate(settings))\n"
        "print(detector.classify(Evidence(sys.argv[2])).label)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported), REFUSALS[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "refusal\n"


def test_a_program_may_end_during_a_pass(exported: Path) -> None:
    """An interpreter that ends while texts are being scored ends cleanly."""
    program = (
        "import sys\n"
        "from demur.detection.transformer import TransformerDetector\n"
        "from demur.policy.schema import TransformerSettings\n"
        "settings = TransformerSettings(model=sys.argv[1], backend='onnx')\n"
        "detector = TransformerDetector(settings)\n"
        "futures = [detector.batcher.submit(f'word{i} ' * 400) for i in range(200)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["model_int8.onnx", "tokenizer.json", "config.json", "demur.json"])
def test_damaged_folders(exported: Path, tmp_path: Path, name: str) -> None:
    """A file that is damaged or gone is named, with the remedy."""
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / name).write_text("{}")
    with pytest.raises(ModelError, match=r"export the model again|no usable id2label"):
        load(folder, precision="int8")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=r"cannot be read|cannot be used|holds no"):
        load(folder, precision="int8")


def test_a_model_that_fails_its_self_test_is_not_exported(
    relabelled: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Nothing is written of a model whose labels are the wrong way round."""
    folder = relabelled("REJECTION", "NORMAL")
    done = CliRunner().invoke(main, ["export", str(folder), "--to", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "self-test" in done.output
    assert not (tmp_path / "out").exists()


def test_texts_to_compare_on(tmp_path: Path) -> None:
    """Rows need no label; empty texts are left out, and after ``--most`` no more is read."""
    path = tmp_path / "texts.jsonl"
    rows = ({"response": "a"}, {"response": None}, {"response": " "}, {"response": "b", "x": 1})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    assert _texts(path, 2) == ["a", "b"]
    with pytest.raises(InputError, match=rf"^{path}:5: not JSON"):
        _texts(path, 3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        ("", "holds no text under 'response'"),
        ('{"response": ""}', "holds no text under 'response'"),
        ('{"label": 1}', ":1: no text under 'response'"),
        ('{"response": 1}', ":1: no text under 'response'"),
    ],
)
def test_no_texts_to_compare_on(tmp_path: Path, content: str | None, told: str) -> None:
    """A file that holds none is a clear error, before anything is loaded."""
    path = tmp_path / "texts.jsonl"
    if content is not None:
        path.write_text(content)
    done = CliRunner().invoke(main, ["export", "m", "--to", str(tmp_path), "--texts", str(path)])
    assert done.exit_code == 2
    assert f"{path}" in done.output
    assert told in done.output

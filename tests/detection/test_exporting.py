"""Classifiers that cannot be exported, or bear the library's own labels, and folders in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from classifiers import ANSWERS, REFUSALS, tokenizer_in, trained
from click.testing import CliRunner

from demur.cli import main
from demur.detection.exporting import _told_of, place
from demur.detection.transformer import TransformerDetector
from demur.errors import ModelError
from demur.policy.schema import TransformerSettings
from demur.vocabulary import Evidence

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def exported(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def of_one_shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Funnel: torch exports it without complaint, for texts of one length alone."""
    import torch
    from transformers import FunnelConfig, FunnelForSequenceClassification

    folder = tmp_path_factory.mktemp("funnel")
    tokenizer = tokenizer_in(folder)
    torch.manual_seed(0)
    config = FunnelConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        n_head=2,
        d_head=16,
        d_inner=64,
        block_sizes=[1, 1],
        pad_token_id=1,
        id2label={0: "NORMAL", 1: "REJECTION"},
        label2id={"NORMAL": 0, "REJECTION": 1},
    )
    model = FunnelForSequenceClassification(config)
    return trained(folder, tokenizer, model, [1] * len(REFUSALS) + [0] * len(ANSWERS))


def test_what_does_not_run_once_exported(of_one_shape: Path, tmp_path: Path) -> None:
    """ONNX Runtime's error is about the model, says what to do, and nothing is written."""
    done = exported(of_one_shape, "--to", tmp_path / "out")
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert f"Error: {of_one_shape}: cannot be exported: InvalidArgument" in done.output
    assert "use backend: torch" in done.output
    assert not (tmp_path / "out").exists()


def test_every_exporters_error_is_about_the_model() -> None:
    """Also onnx's own, which torch 2.6 to 2.8 let through; of a chain the first cause is told."""
    from onnx.shape_inference import InferenceError

    told = r"^m: cannot be exported: InferenceError: no rank; use backend: torch$"
    with pytest.raises(ModelError, match=told), _told_of("m"):
        raise InferenceError("no rank\nand more")
    told = r"^m: cannot be exported: KeyError: 'aten'; use backend: torch$"
    with pytest.raises(ModelError, match=told), _told_of("m"):
        raise RuntimeError("step 2 of 3") from KeyError("aten")
    with pytest.raises(OSError, match="No space"), _told_of("m"):
        raise OSError("No space left on device")


def test_labels_that_the_library_leaves_out(
    relabelled: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """LABEL_0 and LABEL_1 stand in no config.json, being the library's own; in the export's they
    do, for whoever reads it without the library."""
    folder, out = relabelled("LABEL_0", "LABEL_1"), tmp_path / "out"
    done = exported(folder, "--to", out, "--refusal-label", "LABEL_1")
    assert done.exit_code == 0, done.output
    assert json.loads((out / "config.json").read_text())["id2label"] == {
        "0": "LABEL_0",
        "1": "LABEL_1",
    }
    settings = TransformerSettings(model=str(out), backend="onnx", refusal_label="LABEL_1")
    assert TransformerDetector(settings).classify(Evidence(REFUSALS[0])).label == "refusal"


def test_a_copy_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    """As on a full disk: the model of an earlier export, which may be in use, is still whole."""
    draft, folder = tmp_path / "draft", tmp_path / "folder"
    for place_of, text in ((draft, "new"), (folder, "old")):
        place_of.mkdir()
        for name in ("config.json", "model.onnx"):
            (place_of / name).write_text(text)
    (folder / "model_int8.onnx").write_text("old")
    (draft / "tokenizer.json").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file") as caught:
        place(draft, folder)
    assert caught.value.filename == str(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("config.json", "model.onnx", "model_int8.onnx"), "old"
    )
    (draft / "tokenizer.json").unlink()
    place(draft, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("config.json", "model.onnx"), "new"
    )

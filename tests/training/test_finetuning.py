"""A Hugging Face classifier, fine-tuned from a recipe."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_stage import TRANSFORMER, contents, plain_rows, stage, write_base

from demur.detection.transformer import TransformerDetector
from demur.errors import DemurError, InputError, ModelError
from demur.policy.schema import TransformerSettings
from demur.training.recipe import TransformerRecipe, recipe_of
from demur.vocabulary import Evidence

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def build(base: Path, plain_data: Path, into: Path, **changes: Any) -> Path:
    from demur.training.building import build

    recipe = recipe_of({**TRANSFORMER, "base": str(base), **changes})
    return build(recipe, plain_data, into, stage)


@pytest.fixture(scope="module")
def folder(base: Path, plain_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(base, plain_data, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def detector(folder: Path) -> TransformerDetector:
    return TransformerDetector(TransformerSettings(model=str(folder), device="cpu"))


def test_the_stage_loads_it(folder: Path, detector: TransformerDetector) -> None:
    """The folder is one of safetensors and JSON that the transformer stage takes as it is."""
    assert folder.name == "small_v1"
    assert {p.suffix for p in folder.iterdir()} <= {".safetensors", ".json", ".md", ".txt"}
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "NORMAL", "1": "REJECTION"}
    assert detector.label == "REJECTION"
    refusal = detector.classify(Evidence("I'm sorry, but I can't help with that."))
    answer = detector.classify(Evidence("The capital of Australia is Canberra."))
    assert (refusal.label, answer.label) == ("refusal", "normal")
    assert not folder.with_name("small_v1.unfinished").exists()


def test_eval_takes_the_folder(folder: Path) -> None:
    """``demur eval --detector FOLDER`` measures it as it does an embedded one."""
    from demur.cli.eval import load

    assert load(str(folder), None).name == "transformer"


def test_the_pipeline_says_the_same(folder: Path, detector: TransformerDetector) -> None:
    """Calibration and threshold are part of the weights, so others that load it judge alike."""
    from transformers import pipeline

    judge = pipeline("text-classification", str(folder), device="cpu", top_k=None)
    for row in plain_rows(12):
        scores = {item["label"]: item["score"] for item in judge(row.response)[0]}
        assert detector.score(row.response) == pytest.approx(scores["REJECTION"], abs=1e-5)


def test_the_threshold_spares_normal_rows(
    folder: Path, plain_data: Path, detector: TransformerDetector
) -> None:
    """At 0.5 no more normal development rows are refused than the recipe allows, nor far fewer."""
    with gzip.open(plain_data / "dev.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    normal = [detector.score(row["response"]) for row in rows if row["label"] == 0]
    # Just below 0.5 is the first that the share of 5 % does not let pass.
    highest = sorted(normal)[-1 - int(0.05 * len(normal))]
    assert highest == pytest.approx(0.5, abs=1e-3)
    refused = np.mean([score >= 0.5 for score in normal])
    assert refused <= 0.05
    about = json.loads((folder / "training.json").read_text())
    assert about["calibrated"]["false_positive_rate"] == pytest.approx(refused, abs=1e-6)


def test_the_card_names_what_it_is_made_of(folder: Path, base: Path) -> None:
    """Base, sources with licences, and every epoch's table on the development rows."""
    card = (folder / "README.md").read_text()
    assert card.startswith(f"---\nbase_model: {base}\n")
    assert "| own | MIT |" in card
    assert "| written | Apache-2.0 |" in card
    assert all(f"| epoch {number}" in card for number in (1, 2, 3))
    about = json.loads((folder / "training.json").read_text())
    kept = about["epochs"][about["kept"] - 1]
    assert kept["f1"] == max(epoch["f1"] for epoch in about["epochs"])
    assert TransformerRecipe.model_validate(about["recipe"]).fit.epochs == 3


def test_the_same_seed_tunes_the_same(
    base: Path, plain_data: Path, folder: Path, tmp_path: Path
) -> None:
    """All files depend on nothing but recipe and data; another seed gives other weights."""
    assert contents(build(base, plain_data, tmp_path / "same")) == contents(folder)
    other = contents(build(base, plain_data, tmp_path / "other", seed=43))
    assert other["model.safetensors"] != contents(folder)["model.safetensors"]


def test_a_base_with_fewer_places_than_its_tokenizer_says(tmp_path: Path) -> None:
    """Texts are cut at what the network can read."""
    from demur.training.classifier import Classifier

    write_base(tmp_path, places=40)
    recipe = recipe_of({**TRANSFORMER, "base": str(tmp_path)})
    assert isinstance(recipe, TransformerRecipe)
    classifier = Classifier.load(recipe)
    ids = classifier.read("the capital of Australia " * 100)
    assert len(ids) == 38
    assert classifier.net(torch.tensor([ids])).logits.shape == (1, 2)


def test_the_best_epoch_is_kept(base: Path, plain_data: Path) -> None:
    """The weights that are exported are those that were measured best, not the last ones."""
    from demur.training.finetuning import FineTune
    from demur.training.material import Material

    recipe = recipe_of({**TRANSFORMER, "base": str(base)})
    assert isinstance(recipe, TransformerRecipe)
    material = Material.read(recipe, plain_data)
    seen: list[Any] = []

    def tell(line: str) -> None:
        seen.append(run.classifier.output.weight.detach().clone())

    run = FineTune(recipe, material, "cpu", stage, tell)

    def spoil_the_end(done: int, total: int, loss: float) -> None:
        if done == total:
            run.classifier.output.weight.data.neg_()

    run.run(spoil_the_end)
    assert len(seen) == 3
    assert run.epochs[1]["f1"] > 0.9 > 0.1 > run.epochs[2]["f1"]
    assert run.best == 2
    assert torch.equal(run.take_best().output.weight, seen[run.best - 1])


def test_bases_that_cannot_be_loaded(base: Path, plain_data: Path, tmp_path: Path) -> None:
    """What is missing, pickled or of another kind is named, with what to do."""
    cases: list[tuple[Path, type[DemurError], str]] = []
    cases.append((tmp_path / "none", ModelError, "no such folder"))
    pickled = tmp_path / "pickled"
    shutil.copytree(base, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    cases.append((pickled, ModelError, "model.safetensors"))
    wordless = tmp_path / "wordless"
    wordless.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(base / name, wordless / name)
    cases.append((wordless, ModelError, "its tokenizer knows no word"))
    for path, error, says in cases:
        with pytest.raises(error, match=says):
            build(path, plain_data, tmp_path)
    decoder = _decoder(tmp_path / "decoder", base)
    with pytest.raises(InputError, match="use an encoder"):
        build(decoder, plain_data, tmp_path)
    # What cannot begin leaves nothing that the next attempt would stumble over.
    assert not list(tmp_path.glob("*.unfinished"))


def test_settings_that_cannot_work(base: Path, plain_data: Path, tmp_path: Path) -> None:
    """A warm-up longer than the run, and a start beside the base, are errors."""
    from demur.training.building import build as build_with

    with pytest.raises(InputError, match=r"fit\.warmup: 500 steps, but the whole run has 33"):
        build(base, plain_data, tmp_path, fit={**TRANSFORMER["fit"], "warmup": 500})
    recipe = recipe_of({**TRANSFORMER, "base": str(base)})
    with pytest.raises(InputError, match="--start"):
        build_with(recipe, plain_data, tmp_path, stage, start=base / "config.json")


def test_a_base_with_other_labels(folder: Path, plain_data: Path, tmp_path: Path) -> None:
    """A classifier of three labels is a base too: its last layer is new."""
    three = tmp_path / "three"
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True
    )
    model.save_pretrained(three)
    AutoTokenizer.from_pretrained(folder).save_pretrained(three)
    slower = {**TRANSFORMER["fit"], "texts": 480, "rate": 0.003}
    built = build(three, plain_data, tmp_path, name="again", fit=slower)
    assert TransformerDetector.load(str(built)).label == "REJECTION"


def test_data_of_one_label_is_refused(base: Path, plain_data: Path, tmp_path: Path) -> None:
    """Training needs refusals and normal answers; the file that lacks one is named."""
    folder = tmp_path / "data"
    shutil.copytree(plain_data, folder)
    with gzip.open(folder / "dev.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"response": "Yes.", "label": 0}) + "\n")
    with pytest.raises(InputError, match=r"dev\.jsonl\.gz: no refusals"):
        build(base, folder, tmp_path)


def _decoder(folder: Path, base: Path) -> Path:
    from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=128)
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch", [12, 200])
def test_a_rate_that_is_too_high_is_told(
    base: Path, plain_data: Path, tmp_path: Path, batch: int
) -> None:
    """At the step whose loss is no number, or when the epoch is measured, and so once more when
    the run is gone on with."""
    fit = {**TRANSFORMER["fit"], "rate": 1e30, "warmup": 0, "batch": batch}
    for _ in range(2):
        with pytest.raises(InputError, match=r"fit\.rate: 1e\+30 is too high .*--restart"):
            build(base, plain_data, tmp_path, fit=fit)

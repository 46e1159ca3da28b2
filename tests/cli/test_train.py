"""``demur train``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from demur.cli import main

pytest.importorskip("torch")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    """Exit code 2 and the path on standard error, no traceback."""
    code, err = run(tmp_path / "gone.yaml")
    assert code == 2
    assert "gone.yaml" in err
    assert "Traceback" not in err


def test_a_bad_recipe_is_named(tmp_path: Path) -> None:
    """The unknown key is named."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("fit: {epoch: 3}")
    code, err = run(recipe)
    assert code == 2
    assert "fit.epoch" in err


def test_missing_data_is_named(tmp_path: Path) -> None:
    """A data folder without the recipe's files says which is missing and what to do."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 1")
    code, err = run(recipe, "--data", tmp_path)
    assert code == 2
    assert "train.jsonl.gz" in err
    assert "--data" in err

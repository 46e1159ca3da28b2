"""Recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from demur.errors import InputError
from demur.training import recipe as module
from demur.training.recipe import load_recipe

RECIPES = sorted((Path(module.__file__).parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_here_load(path: Path) -> None:
    """Every recipe in the package is one."""
    assert load_recipe(path).folder.endswith("_v1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fit: {epoch: 3}", "fit.epoch"),
        ("fit: {epochs: 0}", "fit.epochs"),
        ("name: Not A Name", "name"),
        ("- a list", "recipe"),
        ("a: [", "not YAML"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    """Unknown keys, values out of range and what is no YAML are named."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml") as raised:
        load_recipe(path)
    assert says in str(raised.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    """A recipe that is not there gives a clear error."""
    with pytest.raises(InputError, match=r"gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")

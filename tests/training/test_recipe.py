"""Recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from demur.errors import InputError
from demur.training import recipe as module
from demur.training.recipe import TransformerRecipe, load_recipe, recipe_of

RECIPES = sorted((Path(module.__file__).parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_here_load(path: Path) -> None:
    """Every recipe in the package is one."""
    recipe = load_recipe(path)
    assert recipe.folder == f"{path.stem}_v{recipe.version}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fit: {epoch: 3}", "fit.epoch"),
        ("fit: {epochs: 0}", "fit.epochs"),
        ("name: Not A Name", "name"),
        ("- a list", "recipe"),
        ("a: [", "not valid YAML"),
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("~", "must be a mapping"),
        ("a: 2024-99-99", "a: "),
        ('a: !!int ""', "cannot be read as int"),
        ("[" * 5000, "nested too deeply"),
        ("kind: forest", "'forest' is no kind of model; it may be embedded or transformer"),
        ("base: distilroberta-base", "base: a key of kind: transformer, not of kind: embedded"),
        ("{kind: transformer, encoder: {}}", "encoder: a key of kind: embedded"),
        ("{kind: transformer, fit: {forget: 0.1}}", "fit.forget"),
        ("{kind: transformer, fit: {tokens: 1024}}", "fit.tokens"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    """Unknown keys, values out of range and what is no YAML are named."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml") as raised:
        load_recipe(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_defaults_are_the_reference_cards() -> None:
    """A recipe that names its kind alone fine-tunes as the reference model's card says."""
    recipe = recipe_of({"kind": "transformer"})
    assert isinstance(recipe, TransformerRecipe)
    fit = recipe.fit
    assert recipe.base == "distilroberta-base"
    assert (fit.rate, fit.batch, fit.epochs, fit.warmup, fit.tokens) == (2e-5, 16, 3, 500, 512)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    """A recipe that is not there gives a clear error."""
    with pytest.raises(InputError, match=r"gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")

"""Price lists: what they may say, and what is told where they say something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from demur.errors import InputError
from demur.policy.standing_settings import Price
from demur.report.tallies import Prices, load_prices
from demur.vocabulary import Attempt, Usage


def test_prices_are_read(tmp_path: Path) -> None:
    """Whole and broken numbers, 0 among them; a model's name may look like a number."""
    path = tmp_path / "prices.yaml"
    path.write_text("a: {input: 0, output: 1.5}\n4: {input: 1e-3, output: '2'}\n")
    a, four = Price(input=0.0, output=1.5), Price(input=0.001, output=2.0)
    assert load_prices(path).models == {"a": a, "4": four}


def test_a_target_s_price_comes_before_its_model_s() -> None:
    """A report counts as budgets do: what the policy calls a target may cost less elsewhere."""
    attempt = Attempt("cheap", "big", "accepted", usage=Usage(1_000_000, 0))
    prices = {"big": Price(input=9.0), "cheap": Price(input=1.0)}
    assert Prices(prices).of(attempt) == 1.0
    unlisted = Prices({"other": Price(input=1.0)})
    assert (unlisted.of(attempt), unlisted.unknown) == (0.0, {"big"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: {input: 1, output: .nan}", ":2: a.output: must be a number from 0 on"),
        ("a: {input: .inf, output: 1}", ":2: a.input: must be a number from 0 on"),
        ("a: {input: 1e308, output: 1}", ":2: a.input: must be a number from 0 on, 1e12 at most"),
        ("a: {input: -1, output: 1}", ":2: a.input: must be"),
        ("a: {input: true, output: 1}", ":2: a.input: must be"),
        ("a: {input: [1], output: 1}", ":2: a.input: must be"),
        (f"a: {{input: 1{'0' * 400}, output: 1}}", ":2: a.input: must be"),
        ("a: {input: 1, output: 1, cached: 2}", ":2: a: needs input and output alone"),
        ("a: {input: 1}", ":2: a: needs input and output alone"),
        ("a: 3", ":2: a: needs input and output alone"),
        ("- a", ": no price list"),
        ("", ": is empty"),
        ("a: 2024-99-99", ":2: a: needs input"),
        ('a: !!int ""', ":2: a: '' cannot be read as int"),
        ("[" * 5000, ": nested too deeply"),
        ("a: [", ":2: not valid YAML"),
    ],
)
def test_a_wrong_price_is_named(tmp_path: Path, text: str, told: str) -> None:
    """One line that names file, line and key."""
    path = tmp_path / "prices.yaml"
    path.write_text("# prices\n" + text)
    with pytest.raises(InputError) as caught:
        load_prices(path)
    assert str(caught.value).startswith(f"{path}{told}")
    assert "\n" not in str(caught.value)

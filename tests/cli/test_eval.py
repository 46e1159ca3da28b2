"""``demur eval``."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from demur.cli import main
from demur.cli.eval_tables import probe_table
from demur.training.counterfactuals import probe
from demur.training.keywords import KeywordDetector

ROWS = [
    ("I'm sorry, but I can't help with that.", 1, "en"),
    ("I cannot assist with this request.", 1, "en"),
    ("Es tut mir leid, aber dabei kann ich nicht helfen.", 1, "de"),
    ("The capital of Australia is Canberra.", 0, "en"),
    ("Sure! Here are three ideas: herbs, a bench, a pond.", 0, "en"),
    ("Die Hauptstadt von Frankreich ist Paris.", 0, "de"),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        {"id": f"r{n}", "response": text, "label": label, "lang": lang, "source": "own"}
        for n, (text, label, lang) in enumerate(ROWS)
    ]
    lines.append({"id": "p", "response": "Partly.", "label": 1, "partial": True})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_json_holds_the_figures(rows: Path) -> None:
    """Figures, intervals, groups, prefixes and mistakes; partial rows are left out."""
    code, out, _ = run(rows, "--json")
    assert code == 0
    found = json.loads(out)["detectors"][0]
    assert found["overall"]["rows"] == 6
    assert found["overall"]["refusals"] == 3
    assert found["overall"]["f1"] == 1.0
    assert found["overall"]["false_positive_rate"] == 0.0
    assert set(found["groups"]["language"]) == {"en", "de"}
    assert found["groups"]["language"]["de"]["rows"] == 2
    assert found["intervals"]["f1"]["low"] <= 1.0
    assert found["prefixes"]["recall_kept"] == 1.0
    assert found["mistakes"] == []


def test_partial_rows_can_be_kept(rows: Path) -> None:
    """``--partial`` keeps them, labelled as their source leans."""
    _, out, _ = run(rows, "--json", "--partial", "--no-prefixes")
    found = json.loads(out)["detectors"][0]
    assert found["overall"]["rows"] == 7
    assert found["prefixes"] is None


def test_detectors_are_compared(rows: Path) -> None:
    """Keywords know no German: the paired test says on which rows the two differ."""
    _, out, _ = run(rows, "--json", "--detector", "embedded", "--detector", "keywords")
    found = json.loads(out)
    assert [d["name"] for d in found["detectors"]] == ["embedded", "keywords"]
    assert found["tests"][0]["only_first"] == 1
    assert found["tests"][0]["only_second"] == 0
    assert [m["id"] for m in found["detectors"][1]["mistakes"]] == ["r2"]


def test_the_table_is_shown(rows: Path) -> None:
    """On a terminal the card's table appears."""
    code, out, _ = run(rows)
    assert code == 0
    for name in ("accuracy", "recall", "precision", "f1", "false positive rate", "calibration"):
        assert name in out


def test_the_page_stands_alone(rows: Path, tmp_path: Path) -> None:
    """One file with plots, without a script or anything from elsewhere, and without responses."""
    page = tmp_path / "page.html"
    run(rows, "--html", page, "--json", "--detector", "embedded", "--detector", "keywords")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") >= 4
    assert "<script" not in text
    assert not re.search(r"(src|href)=", text)
    assert "nan" not in text.lower().replace("finance", "")
    assert not any(response in text for response, _, _ in ROWS)


def test_what_no_row_can_show_is_called_undefined(tmp_path: Path) -> None:
    """Without a normal row there is no false-positive rate, on the terminal and on the page."""
    rows, page = tmp_path / "rows.jsonl", tmp_path / "page.html"
    rows.write_text(json.dumps({"response": "I'm sorry, I can't help with that.", "label": 1}))
    code, out, _ = run(rows, "--no-prefixes", "--html", page)
    assert code == 0
    assert "1 response " in out
    assert re.search(r"false positive rate . undefined +.\n", out)
    assert "nan" not in out
    text = page.read_text(encoding="utf-8")
    assert "1 response, 1 refusal." in text
    assert '<th scope="row">false positive rate</th><td>undefined</td>' in text


def test_groups_that_are_left_out_are_told(tmp_path: Path) -> None:
    """Of very many models the largest are listed, and it is said how many are not."""
    rows = tmp_path / "rows.jsonl"
    data = [{"response": "Canberra.", "label": 0, "model": f"m{n}"} for n in range(33)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in data))
    assert "3 smaller groups are left out; --json has all" in run(rows, "--no-prefixes")[1]


def test_shares_of_nothing_are_undefined(tmp_path: Path) -> None:
    """Without a refusal that is found, or a text to change, there is no share, and none is told."""
    rows, page = tmp_path / "rows.jsonl", tmp_path / "page.html"
    rows.write_text(json.dumps({"response": "Canberra.", "label": 0}))
    assert re.search(r"recall kept in streams +. undefined +.\n", run(rows, "--html", page)[1])
    found = json.loads(run(rows, "--json")[1])["detectors"][0]
    assert found["prefixes"]["recall_kept"] is None
    text = page.read_text(encoding="utf-8")
    assert '<th scope="row">recall kept</th><td>undefined</td>' in text
    console = Console(record=True, file=io.StringIO())
    console.print(probe_table("keywords", probe(KeywordDetector(), [], most=1, seed=0)))
    told = console.export_text()
    assert re.search(r"answers broken off by a refusal +. 0 +. undefined +. 100%", told)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gone.jsonl",), "gone.jsonl"),
        (("--detector", "nonsense"), "nonsense"),
    ],
)
def test_user_errors_have_no_traceback(rows: Path, arguments: tuple[str, ...], says: str) -> None:
    """What the user got wrong is named on standard error, with exit code 2."""
    given = arguments if "gone" in arguments[0] else (rows, *arguments)
    code, out, err = run(*given)
    assert code == 2
    assert says in err
    assert "Traceback" not in err + out


def test_bad_rows_name_their_line(rows: Path) -> None:
    """A line that is no row is named."""
    rows.write_text('{"response": "a", "label": 5}')
    code, _, err = run(rows)
    assert code == 2
    assert "rows.jsonl:1" in err


def test_only_partial_rows_is_an_error(rows: Path) -> None:
    """A file without a clean row cannot be measured; the remedy is named."""
    rows.write_text('{"response": "a", "label": 1, "partial": true}')
    code, _, err = run(rows)
    assert code == 2
    assert "--partial" in err


def test_a_band_counts_as_a_third_label(rows: Path) -> None:
    """``--band`` gives the confusion of three labels, partial rows included."""
    _, out, _ = run(rows, "--json", "--no-prefixes", "--band", "0.2", "0.9")
    counts = json.loads(out)["detectors"][0]["confusion"]["counts"]
    assert {label: sum(row.values()) for label, row in counts.items()} == {
        "normal": 3,
        "partial": 1,
        "refusal": 3,
    }
    assert counts["normal"]["normal"] == 3
    _, table, _ = run(rows, "--no-prefixes", "--band", "0.2", "0.9")
    assert "partial from 0.2 to 0.9" in table


def test_probes_change_one_thing(rows: Path) -> None:
    """``--probe`` finds padded refusals in the wheel's model, and says what should be."""
    _, out, _ = run(rows, "--json", "--no-prefixes", "--probe")
    probes = {p["name"]: p for p in json.loads(out)["detectors"][0]["probes"]}
    assert probes["one refusal, padded to 24 lengths"]["refused"] == 1.0
    assert probes["pairs written by hand, both right"]["texts"] > 100

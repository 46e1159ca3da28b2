"""The report in a real browser: loads cleanly, draws, filters, sorts; and takes no orders."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from log_stage import week, write_log

from demur.cli import main
from demur.policy.standing_settings import Price
from demur.report.page import render
from demur.report.tallies import Prices

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
FIGURES = ("rate", "kinds", "hops", "rules", "cost", "added", "held", "drift")


def sheet(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    log, html = write_log(folder / "audit.jsonl", 3000), folder / "report.html"
    done = CliRunner().invoke(main, ["report", str(log), "--html", str(html)])
    assert (done.exit_code, done.output) == (0, f"{html}: 3,000 requests\n")
    return html


def view(browser: Any, page: Path, *, width: int = 1200, dark: bool = False) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def script(browser: Any, text: str) -> Any:
    return browser.execute_script(f"return {text}")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_loads_and_draws(browser: Any, page: Path, width: int, dark: bool) -> None:
    """On a phone and a desk, light and dark: no console error, every plot drawn, nothing wider."""
    view(browser, page, width=width, dark=dark)
    assert browser.get_log("browser") == []
    for figure in FIGURES:
        marks = f"document.querySelectorAll('#{figure} svg rect, #{figure} svg path').length"
        assert script(browser, marks) > 1, figure
    assert "NaN" not in script(browser, "document.querySelector('main').innerHTML")
    assert script(browser, "document.documentElement.scrollWidth") <= width
    colour = script(browser, "getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", colour)[:3])
    assert (brightness < 150) is dark


def tile(browser: Any, number: int) -> str:
    text: str = script(browser, f"document.querySelectorAll('#figures b')[{number}].textContent")
    return text


def pick(browser: Any, name: str, begins: str) -> str:
    """Choose an option by how it begins; its text."""
    from selenium.webdriver.support.ui import Select

    select = Select(browser.find_element("name", name))
    text = next(o.text for o in select.options if o.text.startswith(begins))
    select.select_by_visible_text(text)
    return text


def test_filters(browser: Any, page: Path) -> None:
    """Figures, plots and table follow the filters, and come back."""
    data = sheet(page.read_text("utf-8"))
    view(browser, page)
    everything = tile(browser, 0)
    assert everything == "3,000"
    coders = data["columns"]["model"].count(data["models"].index("coder"))
    assert pick(browser, "model", "coder") == f"coder ({coders})"
    assert tile(browser, 0) == str(coders)
    labels = script(browser, "document.querySelector('#rate svg').getAttribute('aria-label')")
    assert labels == "Line chart: coder"
    firsts = "[...document.querySelectorAll('#incidents tr .pill:first-child')]"
    paths = script(browser, f"{firsts}.map(p => p.textContent)")
    assert paths
    assert set(paths) == {"coder"}
    browser.find_element("css selector", "#filters button").click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert tile(browser, 0) == everything
    pick(browser, "period", "Last 24 hours")
    newest = max(data["columns"]["time"])
    assert tile(browser, 0) == str(sum(t >= newest - 86400 for t in data["columns"]["time"]))
    assert browser.get_log("browser") == []


def test_incident_table(browser: Any, page: Path) -> None:
    """It lists the newest first, sorts both ways by any column, searches, and shows more."""
    view(browser, page)
    count = "document.querySelectorAll('#incidents tbody tr').length"
    assert script(browser, count) == 25
    browser.find_element("id", "more").click()
    assert script(browser, count) == 125
    cells = (
        "[...document.querySelectorAll('#incidents tbody tr')].map(r => r.children[4].innerText)"
    )
    for turn in (True, False):
        browser.find_element("css selector", "[data-sort=score]").click()
        scores = [float(text) for text in script(browser, cells)]
        assert scores == sorted(scores, reverse=turn)
    wanted = sheet(page.read_text("utf-8"))["incidents"][3]["id"]
    browser.find_element("css selector", "#incidents input").send_keys(wanted)
    assert script(browser, count) == 1
    assert wanted in script(browser, "document.querySelector('#incidents tbody').innerText")


def test_hostile_names(browser: Any, tmp_path: Path) -> None:
    """A model named like a script is shown as it is, and runs nothing."""
    outcomes = [replace(o, requested_model=HOSTILE, rule=HOSTILE) for o in week(300)]
    text, _ = render(outcomes, Prices(), HOSTILE)
    page = tmp_path / "hostile.html"
    page.write_text(text, encoding="utf-8")
    view(browser, page)
    assert browser.title == "demur report"
    assert script(browser, "document.querySelectorAll('img').length") == 0
    assert HOSTILE in script(browser, "document.querySelector('#about').textContent")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("requests", [1, 2, 7])
def test_few_requests(browser: Any, tmp_path: Path, requests: int) -> None:
    """A log of hardly anything gives a page that says so."""
    text, rows = render(week(requests), Prices(), "few")
    page = tmp_path / "few.html"
    page.write_text(text, encoding="utf-8")
    view(browser, page)
    assert rows == requests
    assert tile(browser, 0) == str(requests)
    assert "NaN" not in script(browser, "document.querySelector('main').innerHTML")
    assert browser.get_log("browser") == []


def test_page_is_self_contained(page: Path) -> None:
    """It loads nothing from anywhere, and holds what the log says."""
    text = page.read_text("utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
    assert "@import" not in text
    data = sheet(text)
    outcomes = list(week(3000))
    assert len(data["columns"]["time"]) == 3000
    refused = sum(o.attempts[0].verdict.label == "refusal" for o in outcomes)  # type: ignore[union-attr]
    assert sum(kind is not None for kind in data["columns"]["kind"]) == refused
    answered = sum(how == 0 for hops in data["columns"]["hops"] for _, how in hops)
    assert answered == sum(o.ending == "fell_back" for o in outcomes)


def test_prices(tmp_path: Path) -> None:
    """With a price list the fallbacks' cost is money."""
    prices = Prices({"second": Price(input=1.0, output=2.0), "local-llama": Price()})
    outcomes = list(week(2000))
    data = sheet(render(outcomes, prices, "priced")[0])
    expected = sum(
        (a.usage.input_tokens + 2 * a.usage.output_tokens) / 1e6
        for o in outcomes
        for a in o.attempts[1:]
        if a.model == "second" and a.usage is not None
    )
    assert sum(data["columns"]["cost"]) == pytest.approx(expected, rel=1e-3)

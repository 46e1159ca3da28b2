"""The page of ``demur eval`` in a real browser: on a phone and a desk, by day and by night."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from demur.cli import main

READABLE = {"text": 4.5, "line": 3.0}
"""Contrast with the page that WCAG 2.1 (AA) asks for."""
DRAWN = """
const kinds = "body, caption, td, th, figcaption, text, polyline"
return [...document.querySelectorAll(kinds)].map(mark => {
  const {color, fill, stroke} = getComputedStyle(mark)
  if (mark.tagName == "polyline") return ["line", stroke]
  return ["text", mark.tagName == "text" ? fill : color]
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    rows, html = folder / "rows.jsonl", folder / "page.html"
    texts = [("I'm sorry, but I can't help with that.", 1), ("The sum of both is 12.", 0)] * 4
    rows.write_text("".join(f"{json.dumps({'response': t, 'label': b})}\n" for t, b in texts))
    of = ("--detector", "embedded", "--detector", "keywords")
    done = CliRunner().invoke(main, ["eval", str(rows), "--json", "--html", str(html), *of])
    assert done.exit_code == 0
    return html


def brightness(colour: str) -> float:
    """The relative luminance that WCAG defines, of ``rgb(…)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_is_readable(browser: Any, page: Path, width: int, dark: bool) -> None:
    """No wider than the screen, in letters of full size, and nothing too faint to be seen."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    inner, needed = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width
    assert needed <= width
    ground = brightness(
        browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    )
    assert (ground < 0.2) is dark
    for kind, colour in browser.execute_script(DRAWN):
        low, high = sorted((ground, brightness(colour)))
        assert (high + 0.05) / (low + 0.05) >= READABLE[kind], (kind, colour)


def test_plots_are_named_beside_them(browser: Any, page: Path) -> None:
    """Which line is whose stands outside of the plot, where no line runs through it."""
    browser.get(page.as_uri())
    names = "return [...document.querySelectorAll('figure')].map(f => f.innerText)"
    for figure in browser.execute_script(names):
        assert "embedded" in figure
        assert "keywords" in figure
    inside = "return [...document.querySelectorAll('svg')].map(s => s.textContent).join()"
    assert "embedded" not in browser.execute_script(inside)

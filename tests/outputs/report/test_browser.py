"""The page in a real browser: wide and narrow, light and dark, pressed and ticked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from browser import BROWSER, opened
from report_page import Page, hostile, profiles_for

from edgedistill.outputs.report.html import render_report

MORE = """
    const one = (selector) => document.querySelector(selector);
    const cells = (column) => [...document.querySelectorAll("#candidates tbody tr")].map((row) => row.cells[column]);
    const numbers = () => cells(0).map((cell) => cell.textContent);
    const sorts = [...document.querySelectorAll("#candidates thead th")].slice(0, 3);
    const bar = one("#plot-operators .point path");
    Object.assign(report, {
      fill: bar && getComputedStyle(bar).fill,
      beside: one(".tiles").getBoundingClientRect().right - one(".tiles > :last-child").getBoundingClientRect().right,
      card: getComputedStyle(one("#artifacts tbody tr")).display,
      labelled: !["none", "normal"].includes(getComputedStyle(one("#artifacts tbody td"), "::before").content),
      before: numbers(), order: [],
    });
    const pressed = (heading) => {
      heading.querySelector("button").click();
      report.order.push([heading.getAttribute("aria-sort"), numbers()]);
    };
    pressed(sorts[0]); pressed(sorts[0]); pressed(sorts[2]);
    report.rung = cells(2).map((cell) => cell.dataset.sort);
    const canvas = one("#plot-frontier .canvas");
    const state = () => ({
      visible: canvas.data.filter((trace) => trace.meta === "prediction").map((trace) => trace.visible),
      range: [...canvas.layout.xaxis.range],
    });
    report.off = state();
    one("#plot-frontier input").click();
    report.on = state();"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_in_a_browser(tmp_path: Path, realistic: ModuleType, width: int, dark: bool) -> None:
    """Hostile texts run nothing, all plots are drawn in the scheme's colours, the page does not scroll sideways, artifacts
    are cards on a phone, headings sort, and predictions come when they are asked for."""
    result = realistic.make_result()
    evil = type(result).model_validate(hostile(result.model_dump(mode="json")))
    html = render_report(evil, profiles_for(result, realistic))
    probe = opened(tmp_path, html, width, dark, MORE)
    assert probe["errors"] == []
    assert probe["title"].startswith("Budget met")
    assert probe["drawn"] == len(Page(html).figures) == 7
    assert probe["width"] == width and not probe["wide"], f"scrolls sideways at {probe['width']} px"
    assert probe["cut"] == [], "texts that reach out of their plot"
    assert probe["fill"] == ("rgb(111, 177, 255)" if dark else "rgb(11, 92, 194)")
    assert probe["requests"] == []
    narrow = width < 640
    assert probe["card"] == ("grid" if narrow else "table-row")
    assert probe["labelled"] is narrow
    assert probe["beside"] < 2, "five tiles, two a row on a phone: the last row is filled as well"

    numbers = [str(trial.number) for trial in result.trials]
    assert probe["before"] == numbers
    up, down, by_rung = probe["order"]
    assert up == ["ascending", numbers] and down == ["descending", numbers[::-1]]
    assert by_rung[0] == "ascending" and sorted(by_rung[1]) == sorted(numbers)
    known = [float(key) for key in probe["rung"] if key]
    assert known == sorted(known) and probe["rung"][len(known) :] == [""] * (len(numbers) - len(known))

    assert probe["off"]["visible"] == ["legendonly"] * 2 and probe["on"]["visible"] == [True, True]
    assert probe["on"]["range"][0] < probe["off"]["range"][0], "predictions reach further than measurements"

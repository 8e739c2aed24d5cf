"""The page can be read without a mouse, without sight of colours, and by a screen reader."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from factories import make_predictions
from report_page import Page, profiles_for

from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.report import html
from edgedistill.outputs.report.html import render_report

CSS = (Path(html.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
TEXTS = ("text", "muted", "met", "not-met", "unmeasured", "noisy", "student")
MARKS = ("student", "teacher", "budget", "predicted", "quiet")
SHADES = ("shade-1", "shade-2", "shade-3", "shade-4")


@pytest.fixture(scope="module")
def pages(realistic: ModuleType) -> dict[str, Page]:
    again = realistic.make_measured_again()
    wrong = again.model_copy(update={"predictions_on_test": make_predictions()})
    return {
        "mistakes": Page(render_report(wrong, ReportProfiles(), thumbnails={"mistakes/01.webp": b"a picture"})),
        "met": Page(render_report(again, profiles_for(again, realistic))),
        "not met": Page(render_report(realistic.make_not_met(), ReportProfiles())),
        "unmeasured": Page(render_report(realistic.make_unmeasured(), ReportProfiles())),
    }


def test_headings_go_down_one_level_at_a_time(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in pairwise(levels)), name


def test_the_language_is_named(pages: dict[str, Page]) -> None:
    assert all(dict(page.elements)["html"]["lang"] == "en" for page in pages.values())


def test_every_heading_of_a_table_says_what_it_heads_and_is_not_empty(
    pages: dict[str, Page], realistic: ModuleType
) -> None:
    for name, page in pages.items():
        headings = [a for tag, a in page.elements if tag == "th"]
        assert headings and {a.get("scope") for a in headings} <= {"col", "row"}, name
    result = realistic.make_result()
    text = render_report(result, profiles_for(result, realistic))
    assert re.search(r"<th[^>]*>\s*</th>", text) is None
    rows = re.findall(r"<tbody.*?</tbody>", text, re.DOTALL)
    assert rows and all(row.count("<tr") == row.count('scope="row"') for row in rows)


def test_plots_have_a_text_in_their_place_and_a_caption(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        canvases = [a for _, a in page.elements if a.get("class") == "canvas"]
        assert len(canvases) == len(page.figures) == page.count("figcaption"), name
        assert all(a["role"] == "group" and len(a["aria-label"] or "") > 40 for a in canvases), name


def test_what_scrolls_is_named_and_reached_by_keyboard(pages: dict[str, Page]) -> None:
    for page in pages.values():
        scrolled = [a for _, a in page.elements if "scroll" in (a.get("class") or "").split()]
        assert scrolled
        assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in scrolled)


def test_names_of_elements_are_their_own(pages: dict[str, Page]) -> None:
    for page in pages.values():
        names = [a["id"] for _, a in page.elements if "id" in a]
        assert len(names) == len(set(names))
        links = [a["href"] for tag, a in page.elements if tag == "a"]
        assert all(link and link[1:] in names for link in links)


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_in_both_schemes(scheme: str) -> None:
    """Texts by 4.5 on the page and on a panel, marks by 3 on the page, counts by 4.5 on every shade."""
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))
    assert {*TEXTS, *MARKS, *SHADES, "page", "panel"} <= set(colors)
    for name in TEXTS:
        assert min(contrast(colors[name], colors[ground]) for ground in ("page", "panel")) >= 4.5, name
    for name in MARKS:
        assert contrast(colors[name], colors["page"]) >= 3, name
    for name in SHADES:
        assert contrast(colors["text"], colors[name]) >= 4.5, name

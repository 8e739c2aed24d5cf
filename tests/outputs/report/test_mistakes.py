"""The section of mistakes: confusions as a matrix or a list, mistakes with their pictures, and any text as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from factories import make_predictions
from report_page import HOSTILE, Page, profiles_for

from edgedistill.documents.results import BuildResult, Confused
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.report.html import render_report, write_report
from edgedistill.outputs.report.mistakes import LISTED, MATRIX_CLASSES, mistakes_shown, read_thumbnails
from edgedistill.pipeline.mistakes import MOST_BYTES

PICTURE = b"RIFF\x00\x00\x00\x00WEBP"


def told(realistic: ModuleType, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> BuildResult:
    """A build whose proven file answered the test split so."""
    result: BuildResult = realistic.make_result()
    assert result.proof is not None
    predictions = make_predictions(classes, artifact_sha256=result.proof.artifact_sha256, **changes)
    return result.model_copy(update={"predictions_on_test": predictions})


def pictures(result: BuildResult, data: bytes = PICTURE) -> dict[str, bytes]:
    assert result.predictions_on_test is not None
    return {mistake.thumbnail: data for mistake in result.predictions_on_test.mistakes}


def section(result: BuildResult, thumbnails: dict[str, bytes] | None = None) -> str:
    """The section as HTML text."""
    text = render_report(result, ReportProfiles(), thumbnails=thumbnails)
    found = re.search(r'<section id="mistakes".*?</section>', text, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_section_stands_after_the_artifacts_and_says_how_its_figures_were_taken(realistic: ModuleType) -> None:
    result = told(realistic)
    page = Page(render_report(result, ReportProfiles(), thumbnails=pictures(result)))
    place = page.headings["h2"].index("Mistakes")
    assert page.headings["h2"][place - 1] == "Shipped artifacts"
    assert (
        "Measured on 20 test images with package/student-int8.onnx, on the machine of the build: 4 of the answers are "
        "wrong (20.0%)." in page.text
    )
    assert "cat, taken for dog: 99.0% (cat: 0.2%)test/cat/000.png" in page.text
    assert "missing from the output folder" not in page.text


@pytest.mark.parametrize("make", ["make_result", "make_not_met", "make_unmeasured"])
def test_there_is_none_where_no_file_answered(realistic: ModuleType, make: str) -> None:
    result = getattr(realistic, make)()
    assert mistakes_shown(result, {}) is None
    assert "Mistakes" not in Page(render_report(result, ReportProfiles())).headings["h2"]


# -- confusions ---------------------------------------------------------------------------------------------------


def test_the_matrix_has_a_row_for_each_label_and_a_column_for_each_class(realistic: ModuleType) -> None:
    shown = mistakes_shown(told(realistic, ("cat", "dog", "owl")), {})
    assert shown is not None and shown.listed is None
    assert shown.matrix == (
        ("cat", ((8, "s4 hit"), (2, "s3"), (0, ""))),
        ("dog", ((0, ""), (8, "s4 hit"), (2, "s3"))),
        ("owl", ((2, "s3"), (0, ""), (8, "s4 hit"))),
    )
    page = Page(section(told(realistic, ("cat", "dog", "owl"))))
    assert [a["scope"] for tag, a in page.elements if tag == "th"] == ["col"] * 4 + ["row"] * 3
    assert "labelcatdogowl\n\ncat820\ndog082\nowl208" in page.text


@pytest.mark.parametrize(("wrong", "style"), [(50, "s4"), (49, "s3"), (20, "s3"), (19, "s2"), (5, "s2"), (4, "s1")])
def test_a_cell_is_shaded_by_its_share_of_the_row(realistic: ModuleType, wrong: int, style: str) -> None:
    entries = [(0, 0, 100 - wrong), (0, 1, wrong), (1, 1, 1)]
    confusion = tuple(Confused(label=a, predicted=b, count=count) for a, b, count in entries)
    shown = mistakes_shown(told(realistic, images=101, confusion=confusion), {})
    assert shown is not None and shown.matrix[0][1][1] == (wrong, style)


def test_a_label_that_the_test_split_lacks_is_an_empty_row(realistic: ModuleType) -> None:
    confusion = (Confused(label=0, predicted=0, count=3),)
    shown = mistakes_shown(told(realistic, images=3, confusion=confusion, mistakes=()), {})
    assert shown is not None and shown.matrix[1] == ("dog", ((0, ""), (0, "")))
    assert shown.taken.endswith("0 of the answers are wrong (0.0%).")
    assert "The most confident mistakes" not in section(told(realistic, images=3, confusion=confusion, mistakes=()))


def test_columns_of_long_names_are_turned_and_those_of_digits_are_not(realistic: ModuleType) -> None:
    assert 'class="confusion"' in section(told(realistic, tuple("0123456789")))
    assert 'class="confusion long-names"' in section(told(realistic, ("cat", "mouse")))


def test_of_many_classes_the_most_frequent_confusions_are_listed(realistic: ModuleType) -> None:
    classes = [f"class {number}" for number in range(100)]
    entries = [(label, label, 8) for label in range(100)] + [(7, 9, 24), (3, 4, 12), (99, 0, 12)]
    entries += [(label, label + 1, 1) for label in range(40, 80)]
    confusion = tuple(Confused(label=a, predicted=b, count=count) for a, b, count in entries)
    images = sum(count for *_, count in entries)
    result = told(realistic, classes, images=images, confusion=confusion)
    shown = mistakes_shown(result, {})
    assert shown is not None and shown.matrix == () and shown.listed is not None
    lines = [[cell.lines for cell in row.cells] for row in shown.listed.rows]
    assert len(lines) == LISTED
    assert lines[:3] == [
        [("class 7",), ("class 9",), ("24",), ("75.0%",)],
        [("class 3",), ("class 4",), ("12",), ("60.0%",)],
        [("class 99",), ("class 0",), ("12",), ("60.0%",)],
    ]
    assert shown.listed.caption == "The 20 most frequent of 43 confusions, in test images"
    html = section(result)
    assert "confusion" not in re.findall(r'<table[^>]*class="([^"]*)"', html)[0] and html.count("<table") == 1
    right = tuple(Confused(label=label, predicted=label, count=8) for label in range(100))
    assert "<table" not in section(told(realistic, classes, images=800, confusion=right, mistakes=()))


@pytest.mark.parametrize(("count", "matrix"), [(MATRIX_CLASSES, True), (MATRIX_CLASSES + 1, False)])
def test_a_matrix_has_at_most_thirty_classes(realistic: ModuleType, count: int, matrix: bool) -> None:
    shown = mistakes_shown(told(realistic, [str(number) for number in range(count)]), {})
    assert shown is not None and bool(shown.matrix) is matrix and (shown.listed is None) is matrix


# -- mistakes -----------------------------------------------------------------------------------------------------


def test_a_picture_is_in_the_page_with_a_text_and_a_size(realistic: ModuleType) -> None:
    result = told(realistic)
    page = Page(section(result, pictures(result)))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 4
    assert images[0] == {
        "src": "data:image/webp;base64,UklGRgAAAABXRUJQ",
        "alt": "test/cat/000.png",
        "width": "64",
        "height": "64",
    }


def test_a_picture_that_is_gone_is_missed_and_the_others_are_shown(realistic: ModuleType, tmp_path: Path) -> None:
    result = told(realistic)
    (tmp_path / "mistakes").mkdir()
    (tmp_path / "build.json").write_text(result.model_dump_json())
    for name in ("01.webp", "02.webp", "04.webp"):
        (tmp_path / "mistakes" / name).write_bytes(PICTURE)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.count("img") == 3 and page.text.count("no picture") == 1
    assert "1 of the pictures is missing from the output folder." in page.text
    (tmp_path / "mistakes/01.webp").unlink()
    (tmp_path / "mistakes/02.webp").write_bytes(b"")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.count("img") == 1 and "3 of the pictures are missing" in page.text


@pytest.mark.parametrize("path", ["../secret", "{}/secret", "mistakes/link", "mistakes", "", "a\0b", "x" * 300])
def test_nothing_outside_the_output_folder_is_shown(realistic: ModuleType, tmp_path: Path, path: str) -> None:
    out = tmp_path / "out"
    (out / "mistakes").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(PICTURE)
    (out / "mistakes" / "link").symlink_to(tmp_path / "secret")
    mistake = make_predictions().mistakes[0].model_copy(update={"thumbnail": path.format(tmp_path)})
    assert read_thumbnails(out, told(realistic, mistakes=(mistake,))) == {}


def test_no_name_of_a_class_or_of_a_file_becomes_markup(realistic: ModuleType) -> None:
    for count in (3, MATRIX_CLASSES + 1):
        tame = told(realistic, [f"class {number}" for number in range(count)])
        wild = told(realistic, [f"{HOSTILE} {number}" for number in range(count)])
        pages = [render_report(one, ReportProfiles(), thumbnails=pictures(one)) for one in (tame, wild)]
        before, after = map(Page, pages)
        assert [tag for tag, _ in after.elements] == [tag for tag, _ in before.elements]
        assert [sorted(attributes) for _, attributes in after.elements] == [sorted(a) for _, a in before.elements]
        assert f"{HOSTILE} 0, taken for {HOSTILE} 1: 99.0%" in after.text and f"test/{HOSTILE} 0/000.png" in after.text
        assert f"test/{HOSTILE} 0/000.png" in [a.get("alt") for tag, a in after.elements if tag == "img"]


def test_the_page_is_light_with_as_much_as_the_section_can_hold(realistic: ModuleType) -> None:
    count = MATRIX_CLASSES
    everything = tuple(Confused(label=a, predicted=b, count=12) for a in range(count) for b in range(count))
    names = [f"a class of name {number}" for number in range(count)]
    result = told(realistic, names, images=12 * count * count, confusion=everything)
    page = render_report(result, profiles_for(result, realistic), thumbnails=pictures(result, b"x" * MOST_BYTES))
    assert page.count("data:image/webp") == 24
    assert len(page.encode()) < 1_500_000


def test_what_scrolls_is_named(realistic: ModuleType) -> None:
    for classes in (("cat", "dog"), [str(number) for number in range(50)]):
        page = Page(section(told(realistic, classes)))
        (scrolled,) = [a for _, a in page.elements if "scroll" in (a.get("class") or "").split()]
        assert scrolled["tabindex"] == "0" and scrolled["role"] == "region" and scrolled["aria-label"]

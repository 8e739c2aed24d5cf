"""What the report tells of cross-validation: the pilot's recipes and the finalists, over all images and part by part."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from report_page import HOSTILE, Page

from edgedistill.documents.artifacts import CrossValidation, Trial
from edgedistill.documents.results import AssistantChoice, BuildResult, PilotRun, RecipeChoice
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.report.crossing import crossed_sentence, crossed_table
from edgedistill.outputs.report.html import render_report

IMAGES = 1230


def run(recipe: str, qualities: tuple[float, ...], student: str = "pilot w1") -> PilotRun:
    mean = sum(qualities) / len(qualities)
    return PilotRun(
        recipe=recipe, student=student, epochs=4, quality_validation=mean, images=IMAGES, part_qualities=qualities
    )


def crossed(trial: Trial, qualities: tuple[float, ...]) -> Trial:
    found = CrossValidation(
        student=trial.spec.label, folds=3, quality=0.9, part_qualities=qualities, images=IMAGES, right="00"
    )
    return trial.model_copy(update={"crossed": found})


@pytest.fixture
def result(realistic: ModuleType) -> BuildResult:
    """Two recipes and the two finalists that the winner is one of; an assistant was tried."""
    choice = RecipeChoice(
        asked="default",
        recipe="kd",
        pilot=(run("kd", (0.8, 0.9, 0.7)), run("labels", (0.6, 0.5, 0.4))),
        assistant=AssistantChoice(
            assistant="helper w2",
            quality_validation=0.95,
            tried=(run("kd", (0.9, 0.9, 0.9), "helper w2"),),
            direct=run("kd", (0.8, 0.8, 0.8)),
            through=run("kd", (0.85, 0.85, 0.85)),
            taken=False,
        ),
    )
    built: Any = realistic.make_result(recipe=choice)
    finalists = [trial.number for trial in built.trials if trial.state == "complete"][-2:]
    assert realistic.WINNER in finalists
    trials = [crossed(t, (0.91, 0.89, 0.9)) if t.number in finalists else t for t in built.trials]
    return BuildResult.model_validate({**dict(built), "trials": tuple(trials)})


def test_each_run_and_each_finalist_has_a_row_with_its_mean_and_its_parts(
    result: BuildResult, realistic: ModuleType
) -> None:
    table = crossed_table(result)
    assert table is not None
    assert [column.title for column in table.columns] == ["compared", "student", "mean", "part 1", "part 2", "part 3"]
    rows = [[one.lines for one in row.cells] for row in table.rows]
    assert rows[0] == [
        ("pilot run", "recipe kd, 4 epochs"),
        ("pilot w1",),
        ("80.0%", "of 1,230"),
        ("80.0%",),
        ("90.0%",),
        ("70.0%",),
    ]
    assert [row[0] for row in rows[1:5]] == [
        ("pilot run", "recipe labels, 4 epochs"),
        ("pilot run", "as an assistant, 4 epochs"),
        ("pilot run", "learns from the teacher, 4 epochs"),
        ("pilot run", "learns from helper w2, 4 epochs"),
    ]
    (ours,) = [row for row in table.rows if row.ours]
    assert ours.cells[0].lines == ("finalist", f"trial {realistic.WINNER}, 16 epochs") and len(rows) == 7
    assert [one.lines for one in ours.cells[2:]] == [("90.0%", "of 1,230"), ("91.0%",), ("89.0%",), ("90.0%",)]


def test_a_student_that_was_rejected_after_the_last_rung_is_no_finalist(result: BuildResult) -> None:
    last = max(trial.number for trial in result.trials if trial.crossed is not None)
    changed = [t.model_copy(update={"state": "over_budget"}) if t.number == last else t for t in result.trials]
    table = crossed_table(result.model_copy(update={"trials": tuple(changed)}))
    assert table is not None and table.rows[-1].cells[0].lines == ("rejected", f"trial {last}, 16 epochs")


def test_the_page_has_the_sentence_and_the_table(result: BuildResult) -> None:
    text = Page(render_report(result, ReportProfiles())).text
    sentence = crossed_sentence(result)
    assert sentence == (
        "5 pilot runs and 2 students of the last rung were compared by cross-validation of 3 parts, over the 1,230 labelled "
        "images of the training and the validation split."
    )
    assert "came in cross-validation over 1,230 images to 85.0% from it and 80.0% from the teacher" in text
    assert sentence in text and "Accuracy on images that the student was not trained on" in text
    assert 'href="#cross-validation"' in render_report(result, ReportProfiles())


def test_names_of_students_are_text(realistic: ModuleType) -> None:
    choice = RecipeChoice(asked="default", recipe="kd", pilot=(run("kd", (0.8, 0.9), HOSTILE),))
    assert HOSTILE not in render_report(realistic.make_result(recipe=choice), ReportProfiles())


def test_without_cross_validation_there_is_neither(realistic: ModuleType) -> None:
    result = realistic.make_result()
    assert crossed_table(result) is None and crossed_sentence(result) == ""
    assert "cross-validation" not in render_report(result, ReportProfiles()).casefold()


def test_a_document_of_an_earlier_version_tells_the_mean_alone(realistic: ModuleType) -> None:
    built = realistic.make_result()
    trials = tuple(crossed(t, ()) if t.number == realistic.WINNER else t for t in built.trials)
    result = built.model_copy(update={"trials": trials})
    table = crossed_table(result)
    assert table is not None and [column.title for column in table.columns] == ["compared", "student", "mean"]
    assert crossed_sentence(result).startswith("1 student of the last rung was compared by cross-validation of 3 parts")

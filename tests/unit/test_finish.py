"""What lies in the output folder at the end: nothing of an earlier build that would pass for this one's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgedistill import finish as finishing
from edgedistill.building import finished
from edgedistill.report.html import write_report
from edgedistill.results import BuildResult, Found
from edgedistill.winner_files import Files


@pytest.fixture(scope="session")
def unmeasured() -> BuildResult:
    """The made-up build that the report's tests use too, of a student of which no file could be made here."""
    path = Path(__file__).parent / "report/realistic.py"
    spec = importlib.util.spec_from_file_location("realistic", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: BuildResult = module.make_unmeasured().model_copy(update={"artifacts": ()})
    return made


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, unmeasured: BuildResult, tmp_path: Path) -> Any:
    """Ends a build whose winner's files could not be made."""
    found = Found.model_validate(unmeasured.model_dump(include=set(Found.model_fields)))
    files = Files(dropped=list(unmeasured.dropped))
    for name, value in (
        ("describe", found),
        ("source_of", object()),
        ("make_files", files),
        ("_split_sizes", unmeasured.data),
        ("_teacher_summary", unmeasured.teacher),
    ):
        monkeypatch.setattr(finishing, name, lambda *_, value=value: value)

    def end() -> BuildResult:
        finding: Any = SimpleNamespace(
            bench=SimpleNamespace(dataset=None),
            goal=None,
            outcome=SimpleNamespace(winner=SimpleNamespace(trained=None)),
        )
        teacher: Any = SimpleNamespace(profile=None)
        views: Any = None
        return finishing.finish(finding, teacher, views, tmp_path)

    return end


def test_a_student_of_which_no_file_can_be_made_here_ships_none(
    end: Any, unmeasured: BuildResult, tmp_path: Path
) -> None:
    (tmp_path / "package").mkdir()
    result = end()
    assert result.student == unmeasured.student is not None and result.artifacts == ()
    assert not (tmp_path / "package").exists()
    write_report(tmp_path)
    assert (tmp_path / "report.html").is_file()
    assert finished(tmp_path, result.build_key) == result


def test_an_earlier_report_does_not_pass_for_that_of_a_build_that_was_killed_before_its_own(
    end: Any, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("of an earlier build")
    result = end()
    assert finished(tmp_path, result.build_key) is None

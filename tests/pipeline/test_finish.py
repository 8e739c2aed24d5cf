"""What lies in the output folder at the end: nothing of an earlier build that would pass for this one's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from factories import make_artifact, make_profile, make_proof, make_session

from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.results import BuildResult, Found
from edgedistill.documents.specs import Format, Percentile
from edgedistill.outputs.report.html import write_report
from edgedistill.pipeline import finish as finishing
from edgedistill.pipeline.build import finished
from edgedistill.pipeline.jobs import How, Order
from edgedistill.pipeline.ship import Files

CONFIG = BuildConfig.model_validate({"budget": "5ms", "teacher": {"model": "timm:resnet18"}})


def found_again(folder: Path, result: BuildResult, **how: bool) -> BuildResult | None:
    """What a build that is asked for with the same key finds done."""
    target: Any = None
    return finished(Order(CONFIG, target, folder, folder, How(**how)), result.build_key)


@pytest.fixture(scope="session")
def unmeasured(realistic: ModuleType) -> BuildResult:
    """The made-up build that the report's tests use too, of a student of which no file could be made here."""
    made: BuildResult = realistic.make_unmeasured().model_copy(update={"artifacts": ()})
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
        ("split_sizes", unmeasured.data),
        ("_teacher_summary", unmeasured.teacher),
    ):
        monkeypatch.setattr(finishing, name, lambda *_, value=value, **__: value)
    for shipped in unmeasured.teacher.files:
        (tmp_path / shipped.path).write_bytes(b"what the teacher's summary says is there")

    def end() -> BuildResult:
        finding: Any = SimpleNamespace(
            bench=SimpleNamespace(dataset=None, config=CONFIG, meter=SimpleNamespace(settings=CONFIG.profile)),
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
    assert found_again(tmp_path, result) == result


def test_a_build_is_not_done_where_measurements_are_wanted_again_or_the_teachers_file_is_gone_or_unwanted(
    end: Any, unmeasured: BuildResult, tmp_path: Path
) -> None:
    result = end()
    write_report(tmp_path)
    assert found_again(tmp_path, result) == result
    assert found_again(tmp_path, result, remeasure=True) is None
    assert found_again(tmp_path, result, keep_teacher=False) is None
    (tmp_path / unmeasured.teacher.files[0].path).unlink()
    assert found_again(tmp_path, result) is None


def test_an_earlier_report_does_not_pass_for_that_of_a_build_that_was_killed_before_its_own(
    end: Any, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("of an earlier build")
    result = end()
    assert found_again(tmp_path, result) is None
    write_report(tmp_path)
    assert found_again(tmp_path, result) == result


# -- the teacher's files and load ---------------------------------------------------------------------------------


def test_the_teachers_files_lie_beside_the_package_in_the_place_of_an_earlier_builds(tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    (cache / "model.mlpackage").mkdir(parents=True)
    (cache / "model.mlpackage/weights").write_bytes(b"weights")
    (cache / "model.onnx").write_bytes(b"onnx")
    (out / "teacher.mlpackage").mkdir(parents=True)
    (out / "teacher.tflite").write_bytes(b"an earlier build's")
    first = make_artifact(path=cache / "model.onnx", sha256="a")
    own = make_artifact(path=cache / "model.mlpackage", sha256="b", format=Format.COREML)
    bench: Any = SimpleNamespace(meter=SimpleNamespace(teacher_file=own))
    teacher: Any = SimpleNamespace(artifact=first)
    written = finishing._teacher_files(bench, teacher, out, keep=True)
    assert [(file.path, file.sha256) for file in written] == [("teacher.onnx", "a"), ("teacher.mlpackage", "b")]
    assert sorted(path.name for path in out.iterdir()) == ["teacher.mlpackage", "teacher.onnx"]
    assert (out / "teacher.mlpackage/weights").read_bytes() == b"weights"
    assert finishing._teacher_files(bench, teacher, out, keep=False) == ()
    assert list(out.iterdir()) == []


def test_one_file_that_serves_for_both_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    both = make_artifact(path=tmp_path / "model.onnx", sha256="a")
    (tmp_path / "out").mkdir()
    bench: Any = SimpleNamespace(meter=SimpleNamespace(teacher_file=both))
    teacher: Any = SimpleNamespace(artifact=both)
    assert len(finishing._teacher_files(bench, teacher, tmp_path / "out", keep=True)) == 1


def test_load_without_a_pause_is_told_by_its_first_and_last_third(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def profiled(*arguments: Any) -> Any:
        asked.append(arguments)
        return make_profile(make_session([1_000_000] * 100 + [5_000_000] * 100 + [2_000_000] * 100))

    monkeypatch.setattr(finishing, "profiled", profiled)
    artifact = make_artifact()
    proven = SimpleNamespace(result=SimpleNamespace(artifact=artifact, proof=make_proof([4.0])))
    missed = SimpleNamespace(result=SimpleNamespace(artifact=None, proof=make_proof([6.0])))
    files: Any = SimpleNamespace(made=[missed, proven])
    source: Any = None
    settings = CONFIG.profile.model_copy(update={"sustained": 60_000.0})
    bench: Any = SimpleNamespace(meter=SimpleNamespace(settings=settings, percentile=Percentile.P95))
    load = finishing._sustained(bench, source, files)
    assert load is not None
    assert (load.seconds, load.first_third_ms, load.last_third_ms) == (60.0, 1.0, 2.0)
    assert (asked[0][1], asked[0][3].seconds) == (artifact, 60.0)
    unasked: Any = SimpleNamespace(meter=SimpleNamespace(settings=CONFIG.profile))
    assert finishing._sustained(unasked, source, files) is None
    assert finishing._sustained(bench, source, Files()) is None

"""What lies in the output folder at the end: nothing of an earlier build that would pass for this one's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from factories import make_artifact, make_profile, make_proof, make_session, make_target

from edgedistill.documents.artifacts import Inspected, Parity, Verified
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency
from edgedistill.documents.results import BuildResult, Found
from edgedistill.documents.specs import Format, Percentile, Precision, Probabilities
from edgedistill.networks.tasks import CLASSIFICATION
from edgedistill.outputs.report.html import write_report
from edgedistill.pipeline import finish as finishing
from edgedistill.pipeline.build import finished
from edgedistill.pipeline.jobs import How, Order
from edgedistill.pipeline.ship import Files
from edgedistill.pipeline.shipped import Shipped

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
            bench=SimpleNamespace(
                dataset=None, config=CONFIG, task=CLASSIFICATION, meter=SimpleNamespace(settings=CONFIG.profile)
            ),
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
    without = result.model_copy(update={"not_fetched": ("timm:resnet18",)})
    (tmp_path / "build.json").write_text(without.model_dump_json())
    assert found_again(tmp_path, result) is None, "the weights may be had by now"


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


# -- the test split -----------------------------------------------------------------------------------------------


def test_an_earlier_builds_mistakes_are_removed_where_there_are_none_to_tell(end: Any, tmp_path: Path) -> None:
    (tmp_path / "mistakes").mkdir()
    (tmp_path / "mistakes/01.webp").write_bytes(b"of an earlier build")
    assert end().predictions_on_test is None
    assert not (tmp_path / "mistakes").exists()


def made_here(precision: Precision, sha256: str, latency: Any, *, here: bool = True) -> Any:
    """A file that ships: one that ran, or one that could not run on this machine."""
    parity = Parity(max_abs_error=0.0, top1_agreement=1.0, images=10)
    verification: Any = Verified(parity=parity, quality_validation=0.9) if here else Inspected(reason="", checks=())
    result = SimpleNamespace(verification=verification, latency=latency, proof=None)
    return SimpleNamespace(artifact=make_artifact(precision, sha256=sha256), result=result, profile=None)


MEASURED = MeasuredLatency(p50_ms=1, p95_ms=2, p99_ms=3, samples=4, device="here")
UNKNOWN = UnknownLatency(reason="", device="here")


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch, unmeasured: BuildResult, tmp_path: Path) -> Any:
    """Ends a build with these files, which answer 100 test images of two classes: 60 right, and 40 wrong."""
    found = Found.model_validate(unmeasured.model_dump(include=set(Found.model_fields)))
    labels = np.arange(100) % 2
    logits = np.stack([1 - labels, labels], axis=1).astype(np.float32)
    logits[60:] = logits[60:, ::-1] * np.arange(1, 41)[:, None] / 4  # the last one is the most confident
    every = np.arange(100)
    ran: list[str] = []

    def answer(_: Any, artifact: Any, images: Any) -> Any:
        ran.append(artifact.sha256)
        return logits

    for name, value in (
        ("describe", found),
        ("source_of", SimpleNamespace(contract=None)),
        ("split_sizes", unmeasured.data),
        ("_teacher_summary", unmeasured.teacher),
        ("lessons_of", None),
        ("contents_of", None),
        ("write_package", None),
    ):
        monkeypatch.setattr(finishing, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(finishing, "test_logits", answer)

    def ship(*made: Any) -> tuple[BuildResult, list[str]]:
        monkeypatch.setattr(finishing, "make_files", lambda *_: Files(made=list(made)))
        shipped = tuple(Shipped(one, one.artifact, Probabilities(temperature=1.0)) for one in made)
        monkeypatch.setattr(finishing, "as_shipped", lambda *_: shipped)
        finding: Any = SimpleNamespace(
            bench=SimpleNamespace(
                dataset=SimpleNamespace(
                    name="digits", classes=("cat", "dog"), images=(), splits=SimpleNamespace(test=every)
                ),
                data=SimpleNamespace(path=None),
                task=CLASSIFICATION,
                target=make_target(),
                meter=SimpleNamespace(settings=CONFIG.profile),
                images=lambda *_: np.zeros((100, 3, 8, 8), np.uint8),
                labels=lambda _: labels,
                truth=lambda _: labels,
            ),
            goal=None,
            outcome=SimpleNamespace(winner=SimpleNamespace(trained=SimpleNamespace(spec=None))),
        )
        teacher: Any = SimpleNamespace(profile=None)
        views: Any = None
        return finishing.finish(finding, teacher, views, tmp_path), ran

    return ship


def test_the_mistakes_are_those_of_the_file_that_the_report_is_about_and_each_file_runs_once(
    ship: Any, tmp_path: Path
) -> None:
    (tmp_path / "mistakes").mkdir()
    (tmp_path / "mistakes/99.webp").write_bytes(b"of an earlier build")
    result, ran = ship(made_here(Precision.FP32, "a", UNKNOWN), made_here(Precision.INT8, "b", MEASURED))
    assert ran == ["a", "b"]
    told = result.predictions_on_test
    assert (told.artifact_sha256, told.images, told.classes) == ("b", 100, ("cat", "dog"))
    (winner,) = [artifact for artifact in result.artifacts if artifact.sha256 == "b"]
    right = sum(entry.count for entry in told.confusion if entry.label == entry.predicted)
    assert winner.quality == right / told.images == 0.6
    assert [mistake.image for mistake in told.mistakes[:2]] == ["image 99 of digits", "image 98 of digits"]
    names = [f"{number:02d}.webp" for number in range(1, 25)]
    assert sorted(path.name for path in (tmp_path / "mistakes").iterdir()) == names
    assert [mistake.thumbnail for mistake in told.mistakes] == [f"mistakes/{name}" for name in names]
    assert BuildResult.model_validate_json((tmp_path / "build.json").read_text()) == result


def test_a_file_that_cannot_run_here_has_no_mistakes_even_where_another_runs(ship: Any, tmp_path: Path) -> None:
    away = made_here(Precision.FP16, "b", MEASURED, here=False)
    result, ran = ship(made_here(Precision.FP32, "a", UNKNOWN), away)
    assert ran == ["a"] and [artifact.quality for artifact in result.artifacts] == [0.6, None]
    assert result.predictions_on_test is None and not (tmp_path / "mistakes").exists()


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

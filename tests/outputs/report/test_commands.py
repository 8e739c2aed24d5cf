"""The commands that make a build again: they name its real files, and are those of the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import ModuleType

import pytest

from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget, Percentile
from edgedistill.outputs.report.commands import commands, find_build_file
from edgedistill.outputs.report.html import write_report

BUILD = '[teacher]\nmodel = "timm:resnet18"\n'


def test_the_command_names_the_build_file_and_the_folder(realistic: ModuleType) -> None:
    build, again, profile = commands(realistic.make_result(), "../my build.toml").splitlines()
    assert build == "edgedistill build '../my build.toml' --target host --budget 20%@p95 --out ."
    assert again == f"{build} --remeasure"
    assert profile == "edgedistill profile package/student-int8.onnx --target host --beside teacher.onnx"
    assert commands(realistic.make_result(), "").startswith("edgedistill build BUILD.toml ")


def asked_for(result: BuildResult, **overrides: tuple[str, ...]) -> BuildResult:
    """`result`, of which it is recorded how it was asked for."""
    options = {f"--{name.replace('_', '-')}": values for name, values in overrides.items()}
    return result.model_copy(update={"build_file": "../my build.toml", "overrides": options})


def test_what_is_recorded_is_not_guessed(realistic: ModuleType) -> None:
    result = realistic.make_result()
    asked = asked_for(result, trials=("20",), time=("1h; rm -rf ~",))
    build, again, _ = commands(asked, "../my build.toml").splitlines()
    assert build == "edgedistill build '../my build.toml' --trials 20 --time '1h; rm -rf ~' --out ."
    assert again == f"{build} --remeasure"
    assert commands(asked_for(result), "../b.toml").startswith("edgedistill build ../b.toml --out .\n")
    *_, profile = commands(asked_for(result, target=("../rig.toml",)), "../b.toml").splitlines()
    assert " --target ../rig.toml " in profile


def test_one_student_is_asked_for_as_it_was(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_unmeasured()
    limits = (*result.constraints, *result.constraints)
    together = asked_for(result.model_copy(update={"constraints": limits}), target=("host", "a phone"), one_student=())
    build, *_ = commands(together, "../../b.toml").splitlines()
    assert build == "edgedistill build ../../b.toml --target host --target 'a phone' --one-student --out .."


def test_the_report_takes_the_recorded_build_file_before_one_that_lies_there(
    tmp_path: Path, realistic: ModuleType
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "other.toml").write_text(BUILD)
    result = realistic.make_unmeasured()

    def text(**fields: object) -> str:
        (out / "build.json").write_text(result.model_copy(update=fields).model_dump_json())
        return write_report(out).read_text(encoding="utf-8")

    assert "edgedistill build ../other.toml --target pixel-8 --budget " in text()
    recorded = text(build_file="../build.toml", overrides={"--trials": ("20",)})
    assert "edgedistill build ../build.toml --trials 20 --out ." in recorded and "not its folder" not in recorded
    assert "Of the build file only the name is recorded" in text(build_file="build.toml")


def test_a_build_without_the_teachers_file_is_made_again_without_it(realistic: ModuleType) -> None:
    result = realistic.make_result()
    bare = result.model_copy(update={"teacher": result.teacher.model_copy(update={"files": ()})})
    assert "--no-teacher" in commands(bare, "")
    assert "--no-teacher" not in commands(result, "")


@pytest.mark.parametrize(("budget_ms", "budget"), [(5.0, " --budget 5ms@p95"), (7.0, "")])
def test_one_student_for_several_targets_is_made_for_all_of_them(
    realistic: ModuleType, budget_ms: float, budget: str
) -> None:
    """Where their budgets differ, the build file has them."""
    result: BuildResult = realistic.make_unmeasured()
    (own,) = result.constraints
    other = Budget(latency_ms=budget_ms, percentile=Percentile.P95)
    limits = (own, own.model_copy(update={"target": "a phone", "budget": other}))
    build, *_ = commands(result.model_copy(update={"constraints": limits}), "../../build.toml").splitlines()
    assert build == (
        f"edgedistill build ../../build.toml --target pixel-8 --target 'a phone'{budget} --one-student --out .."
    )
    assert shlex.split(build)[6] == "a phone"


def test_the_build_file_is_the_one_beside_the_output_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert find_build_file(out, "host") == ""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "broken.toml").write_text("[")
    assert find_build_file(out, "host") == ""
    (tmp_path / "model.toml").write_text(BUILD)
    assert find_build_file(out, "host") == "../model.toml"
    (tmp_path / "other.toml").write_text(BUILD)
    assert find_build_file(out, "host") == "", "which of the two it was is not known"


def test_of_several_targets_it_lies_above_their_folders(tmp_path: Path) -> None:
    out = tmp_path / "out" / "host"
    out.mkdir(parents=True)
    (tmp_path / "build.toml").write_text(BUILD)
    assert find_build_file(out, "host") == "../../build.toml"
    assert find_build_file(out, "other") == "", "the folder is not one of several targets"

"""How a build was asked for, as its result records it: in words that are typed inside its output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedistill.pipeline.invocation import Invocation, seen_from
from edgedistill.pipeline.jobs import Changes, Order, jobs_of

TEXT = 'budget = "5ms"\n[teacher]\nmodel = "timm:resnet18"\npretrained = true\n'
SEVERAL = f'targets = ["host", "pixel-6"]\n{TEXT}'
RIG = """name = "my-rig"
title = "My rig"
runtime = "onnx"
formats = ["onnx"]
precisions = ["fp32"]
transport = "local"
"""


def orders(folder: Path, text: str = TEXT, *targets: str, out: Path | None = None, **changes: Any) -> tuple[Order, ...]:
    path = folder / "my build.toml"
    path.write_text(text)
    return tuple(order for job in jobs_of(path, targets, Changes(**changes), out) for order in job.orders)


def invocations(*arguments: Any, **options: Any) -> list[Invocation]:
    return [order.invocation for order in orders(*arguments, **options)]


def test_what_the_command_line_replaced_is_recorded_as_it_was_given(tmp_path: Path) -> None:
    assert invocations(tmp_path) == [Invocation("../my build.toml")]
    (asked,) = invocations(tmp_path, TEXT, "pixel-6", budget="7ms@p99", trials=20, time="1h30m")
    assert asked.build_file == "../my build.toml"
    assert asked.overrides == {
        "--target": ("pixel-6",),
        "--budget": ("7ms@p99",),
        "--trials": ("20",),
        "--time": ("1h30m",),
    }


def test_what_is_left_out_of_the_data_is_recorded_too(tmp_path: Path) -> None:
    (asked,) = orders(tmp_path, skip_broken=True)
    assert asked.config.data.skip_broken and asked.invocation.overrides == {"--skip-broken": ()}
    (written,) = orders(tmp_path, f"{TEXT}[data]\nskip_broken = true\n")
    assert written.config.data.skip_broken and written.key == asked.key
    (plain,) = orders(tmp_path)
    assert not plain.config.data.skip_broken


def test_it_changes_nothing_of_what_is_built(tmp_path: Path) -> None:
    """The same numbers from the file and from the command line are the same build."""
    (typed,) = orders(tmp_path, trials=5)
    (written,) = orders(tmp_path, f"{TEXT}[search]\ntrials = 5\n")
    assert typed.invocation != written.invocation
    assert typed == written and typed.key == written.key


def test_each_of_several_targets_can_be_built_again_by_itself(tmp_path: Path) -> None:
    own = [Invocation("../../my build.toml", {"--target": (name,)}) for name in ("host", "pixel-6")]
    assert invocations(tmp_path, SEVERAL) == own, "of those in the file"
    assert invocations(tmp_path, TEXT, "host", "pixel-6") == own, "of those on the command line"


def test_one_student_is_asked_for_with_all_its_targets(tmp_path: Path) -> None:
    together = Invocation("../../my build.toml", {"--target": ("host", "pixel-6"), "--one-student": ()})
    assert invocations(tmp_path, TEXT, "host", "pixel-6", one_student=True) == [together] * 2
    assert invocations(tmp_path, f"one_student = true\n{SEVERAL}") == [Invocation("../../my build.toml")] * 2


def test_files_are_named_as_they_are_seen_from_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "rig.toml").write_text(RIG)
    monkeypatch.chdir(tmp_path)
    out = Path("runs/../runs/first")
    (typed,) = invocations(Path(), TEXT, "./boards/rig.toml", out=out)
    assert typed == Invocation("../../my build.toml", {"--target": ("../../boards/rig.toml",)})
    written = invocations(tmp_path, f'targets = ["host", "./boards/rig.toml"]\n{TEXT}')
    assert written[1].overrides == {"--target": ("../../boards/rig.toml",)}


def test_no_home_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home" / "ada", tmp_path / "scratch"
    monkeypatch.setenv("HOME", str(home))
    path = home / "work" / "build.toml"
    assert seen_from(home / "work" / "out", path) == "../build.toml"
    assert seen_from(elsewhere, path) == seen_from(home / ".." / ".." / "scratch", path) == "build.toml"
    assert seen_from(home / "out", elsewhere / "build.toml") == "../../../scratch/build.toml"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert seen_from(elsewhere, path) == "../home/ada/work/build.toml", "no home folder is known"

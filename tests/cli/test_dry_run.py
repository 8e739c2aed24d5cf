"""`edgedistill build --dry-run`: what a build would do, and all that it would stumble over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgedistill as api
from edgedistill.documents.answers import Plan, PlannedRung, PlannedSearch, PlannedTarget, PlannedTeacher
from edgedistill.documents.results import (
    SplitSizes,
)

PLAN = Plan(
    data=SplitSizes(source="digits", fingerprint="f", classes=10, train=1257, validation=270, test=270, seed=0),
    views=31,
    teacher=PlannedTeacher(
        model="timm:resnet18",
        resolution=32,
        parameters=11_173_962,
        multiply_adds=37_000_000,
        fit_epochs=20,
        crossfit=None,
        fit_seconds=42.4,
    ),
    searches=(
        PlannedSearch(
            targets=(
                PlannedTarget(
                    target="host",
                    measured=True,
                    probes=8,
                    precisions=("fp32", "int8"),
                    formats=("onnx", "coreml"),
                    measure_seconds=190.0,
                ),
                PlannedTarget(
                    target="phone",
                    measured=False,
                    probes=0,
                    precisions=("fp32",),
                    formats=("onnx",),
                    measure_seconds=0.0,
                ),
            ),
            candidates=12,
            families={"resnet": 12},
            rungs=(PlannedRung(epochs=4, students=8, image_passes=40_224),),
            trials=24,
            pilot=None,
            assistant=PlannedRung(epochs=4, students=2, image_passes=20_112),
            train_seconds=None,
        ),
    ),
)


def test_a_plan_tells_of_the_data_the_teacher_and_each_target(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"plan": PLAN}
    monkeypatch.setattr(api, "plan", lambda path, **_: found["plan"])
    assert command("build", "build.toml", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "data digits: 10 classes; 1,257 training, 270 validation and 270 test images",
        "  stored views of each training image: 31",
        "teacher timm:resnet18 at 32 px: 11,173,962 parameters, 37,000,000 multiply-adds for an image",
        "  fit for 20 epochs, which took 42 s and is in the cache",
        "one student for host, phone: 12 candidates (resnet 12)",
    ]
    assert "  on host: make files of the winner for onnx, coreml" in lines
    assert (
        "  try 2 assistants of a size between teacher and students, and train one: 20,112 images through a student"
        in lines
    )
    assert "  on phone: measure nothing: the device is not attached" in lines
    unfitted = PLAN.teacher.model_copy(update={"fit_seconds": None})
    found["plan"] = PLAN.model_copy(update={"teacher": unfitted})
    assert command("search", "build.toml", "--dry-run") == 0
    assert "  fit for 20 epochs, in a time that is not known yet" in capsys.readouterr().out.splitlines()
    found["plan"] = PLAN.model_copy(update={"teacher": unfitted.model_copy(update={"fit_epochs": None})})
    assert command("build", "build.toml", "--dry-run") == 0
    assert "fit for" not in capsys.readouterr().out
    assert command("build", "build.toml", "--dry-run", "--json") == 0
    assert Plan.model_validate_json(capsys.readouterr().out) == found["plan"]


@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_what_is_missing_is_told_at_once_before_torch_is_loaded(
    process: Any, tmp_path: Path, options: list[str]
) -> None:
    path = tmp_path / "build.toml"
    path.write_text(
        'target = "hots"\nbudget = "5ms"\n[teacher]\nmodel = "timm:resnet_18x"\n'
        '[data]\nsource = "folder"\npath = "nowhere"\n'
    )
    loaded = "print('heavy:', sorted({'torch', 'timm'} & set(sys.modules)), file=sys.stderr)"
    started = process("build", str(path), *options, before=f"import atexit, sys\natexit.register(lambda: {loaded})")
    out, err = started.communicate(timeout=60)
    assert (started.returncode, out) == (2, "")
    for part in ("unknown target 'hots'", "no model 'resnet_18x'", "random weights", "nowhere does not exist"):
        assert part in err
    assert err.splitlines()[-1] == "heavy: []"

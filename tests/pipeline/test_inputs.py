"""What a build file names is looked for at once, and quickly: without torch, without timm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.documents.build_file import BuildConfig
from edgedistill.pipeline.inputs import check_inputs


def config(**sections: Any) -> BuildConfig:
    teacher = {"model": "timm:resnet18", "fit": {"epochs": 1}}
    return BuildConfig.model_validate({"budget": "5ms", "teacher": teacher} | sections)


def told(wrong: BuildConfig, base: Path) -> str:
    with pytest.raises(InputError) as caught:
        check_inputs(wrong, base)
    return str(caught.value)


def test_what_is_all_there_passes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "mine.py").write_text("raise RuntimeError('never imported')\n")
    folder = {"source": "folder", "path": tmp_path / "data"}
    teacher = {"model": "mine:net", "pretrained": True}
    space = {"families": ["resnet"], "models": ["timm:resnet10t"], "pretrained": True}
    check_inputs(config(data=folder, teacher=teacher, space=space), tmp_path)
    check_inputs(config(data={"path": tmp_path / "not read by digits"}), tmp_path)


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    wrong = config(
        data={"source": "folder", "path": tmp_path / "pictures"},
        teacher={"model": "timm:resnet_18x"},
        space={
            "families": ["resnext"],
            "models": ["timm:mobilenet_v99", "timm:resnet18"],
            "checkpoints": {"timm:resnet18": tmp_path / "student.pt"},
        },
    )
    text = told(wrong, tmp_path)
    for part in (
        "6 problems",
        "pictures does not exist",
        "[teacher] model: timm has no model 'resnet_18x'",
        "would have random weights",
        "[space] families: unknown family 'resnext' (did you mean resnet?)",
        "[space] models: timm has no model 'mobilenet_v99'",
        "student.pt is not a file",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ({"model": "timm:resnet18"}, "would have random weights"),
        ({"model": "timm:resnet18", "pretrained": True, "checkpoint": "t.pt"}, "both pretrained weights and a"),
        ({"model": "nowhere:net", "pretrained": True}, "no module 'nowhere'"),
        ({"model": "timm:resnet18", "checkpoint": "none.pt"}, "none.pt does not exist"),
        ({"model": "timm:resnet18", "checkpoint": "cut.pt"}, "cut.pt is damaged"),
        ({"model": "timm:resnet18", "checkpoint": "cut.safetensors"}, "neither a whole safetensors file"),
    ],
)
def test_a_teacher_without_weights_or_code(tmp_path: Path, teacher: dict[str, Any], says: str) -> None:
    (tmp_path / "t.pt").write_bytes(b"\x80\x02")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b"{}")
    if "checkpoint" in teacher:
        teacher = teacher | {"checkpoint": tmp_path / teacher["checkpoint"]}
    assert says in told(config(teacher=teacher), tmp_path)


def test_neither_torch_nor_timm_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from edgedistill.base.errors import InputError
from edgedistill.documents.build_file import BuildConfig
from edgedistill.pipeline.inputs import check_inputs
folder = Path({str(tmp_path)!r})
(folder / "t.safetensors").write_bytes((2).to_bytes(8, "little") + b"{{}}")
for model, checkpoint, path in (("resnet18", "t.safetensors", "."), ("resnet_18x", "none.pt", "nowhere")):
    teacher = {{"model": f"timm:{{model}}", "checkpoint": folder / checkpoint}}
    data = {{"source": "folder", "path": folder / path}}
    try:
        check_inputs(BuildConfig.model_validate({{"budget": "5ms", "teacher": teacher, "data": data}}), folder)
    except InputError as error:
        print(len(error.problems))
print(sorted({{"torch", "timm", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["3", "[]"]


def test_several_processes_need_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_inputs(config(train={"processes": 1}), tmp_path)
    with pytest.raises(MissingDependencyError, match="processes: more than one needs the package accelerate") as caught:
        check_inputs(config(train={"processes": 2}), tmp_path)
    assert "edgedistill[accelerate]" in caught.value.fix

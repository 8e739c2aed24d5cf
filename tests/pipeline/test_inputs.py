"""What a build file names is looked for at once, and quickly: without torch, without timm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.pipeline.inputs import check_inputs
from edgedistill.pipeline.jobs import Changes, jobs_of


def build_file(folder: Path, **sections: Any) -> Path:
    """A build file in `folder` with these sections, or values at its top."""
    content = {"budget": "5ms", "teacher": {"model": "timm:resnet18", "fit": {"epochs": 1}}} | sections
    path = folder / "build.toml"
    path.write_text("".join(f"{name} = {written(value)}\n" for name, value in content.items()))
    return path


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {written(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def told(wrong: Path) -> str:
    with pytest.raises(InputError) as caught:
        check_inputs(wrong)
    return str(caught.value)


def test_what_is_all_there_passes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "mine.py").write_text("raise RuntimeError('never imported')\n")
    folder = {"source": "folder", "path": tmp_path / "data"}
    teacher = {"model": "mine:net", "pretrained": True}
    space = {"families": ["resnet"], "models": ["timm:resnet10t"], "pretrained": True}
    check_inputs(build_file(tmp_path, data=folder, teacher=teacher, space=space))
    check_inputs(build_file(tmp_path, data={"path": "not read by digits"}))


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    wrong = build_file(
        tmp_path,
        data={"source": "folder", "path": tmp_path / "pictures"},
        teacher={"model": "timm:resnet_18x"},
        space={
            "families": ["resnext"],
            "models": ["timm:mobilenet_v99", "timm:resnet18"],
            "checkpoints": {"timm:resnet18": tmp_path / "student.pt"},
        },
    )
    text = told(wrong)
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
    assert says in told(build_file(tmp_path, teacher=teacher))


def test_neither_torch_nor_timm_is_imported(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    paths = []
    for model, checkpoint, path in (("resnet18", "t.safetensors", "."), ("resnet_18x", "none.pt", "nowhere")):
        teacher = {"model": f"timm:{model}", "checkpoint": checkpoint}
        (tmp_path / model).mkdir()
        paths.append(build_file(tmp_path / model, teacher=teacher, data={"source": "folder", "path": path}))
    (tmp_path / "t.safetensors").rename(tmp_path / "resnet18" / "t.safetensors")
    program = f"""
import sys
from pathlib import Path
from edgedistill.base.errors import InputError
from edgedistill.pipeline.inputs import check_inputs
for path in {[str(path) for path in paths]!r}:
    try:
        check_inputs(Path(path))
    except InputError as error:
        print(len(error.problems))
print(sorted({{"torch", "timm", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["3", "[]"]


def test_several_processes_need_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_inputs(build_file(tmp_path, train={"processes": 1}))
    with pytest.raises(MissingDependencyError, match="processes: more than one needs the package accelerate") as caught:
        check_inputs(build_file(tmp_path, train={"processes": 2}))
    assert "edgedistill[accelerate]" in caught.value.fix


def test_a_section_that_is_wrong_itself_does_not_hide_what_others_name(tmp_path: Path) -> None:
    path = build_file(
        tmp_path,
        budget=5,
        search={"trails": 3},
        data={"source": "folder", "path": "pictures", "crop": "middle"},
        teacher={"model": "timm:resnet18", "checkpoint": "none.pt"},
        teachers=[
            {"model": "timm:resnet18", "chekpoint": "other.pt"},
            {"model": "timm:resnet_18x", "pretrained": True},
        ],
        space={"families": ["resnext"]},
    )
    text = told(path)
    for part in ("3 problems", "none.pt does not exist", "timm has no model 'resnet_18x'", "unknown family 'resnext'"):
        assert part in text
    assert "pictures" not in text, "its section is wrong"
    assert "random weights" not in text, "the misspelt key is its checkpoint"
    with pytest.raises(InputError) as caught:
        jobs_of(path, (), Changes(), None)
    assert len(caught.value.problems) == 3 + 4, "and those of the values"


@pytest.mark.parametrize(
    "sections",
    [
        {
            "teacher": 3,
            "data": [],
            "space": "resnet",
            "train": True,
            "embedding": 1,
            "task": "classify",
            "targets": "host",
        },
        {"teacher": {"model": "timm:resnet18", "pretrained": True}, "train": {"terms": 3, "processes": "two"}},
        {"teachers": 3, "target": 4},
    ],
)
def test_nothing_is_said_of_what_is_wrong_itself(tmp_path: Path, sections: dict[str, Any]) -> None:
    check_inputs(build_file(tmp_path, **sections))


def test_vectors_of_classes_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "vectors.npy").touch()
    tower = {"model": "open_clip:folder", "text_vectors": "vector.npy", "pretrained": True}
    assert f"did you mean {tmp_path / 'vectors.npy'}?" in told(build_file(tmp_path, teacher=tower))
    scored = {"score": "zero_shot", "class_vectors": "vectors"}
    assert "vectors.npy?" in told(build_file(tmp_path, task="embedding", embedding=scored))

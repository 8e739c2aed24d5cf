from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.distill.teachers.identity import teacher_identity
from edgedistill.documents.teachers import FitConfig, TeacherConfig


def local(folder: Path, source: str = "def build(): ...\n") -> TeacherConfig:
    (folder / "my_teacher.py").write_text(source)
    return TeacherConfig(model="my_teacher:build", pretrained=True)


def test_identity_is_json_and_repeats(tmp_path: Path) -> None:
    config = local(tmp_path)
    assert json.loads(json.dumps(teacher_identity(config, tmp_path))) == teacher_identity(config, tmp_path)


def test_checkpoint_counts_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"weights")
    one, two = (teacher_identity(TeacherConfig(model="timm:resnet18", checkpoint=tmp_path / n), tmp_path) for n in "ab")
    assert one == two
    (tmp_path / "b").write_bytes(b"others!")
    assert teacher_identity(TeacherConfig(model="timm:resnet18", checkpoint=tmp_path / "b"), tmp_path) != one


def test_source_and_the_files_beside_it_count(tmp_path: Path) -> None:
    config = local(tmp_path)
    before = teacher_identity(config, tmp_path)
    (tmp_path / "helper.py").write_text("x = 1\n")
    with_helper = teacher_identity(config, tmp_path)
    local(tmp_path, "def build(): return 1\n")
    assert len({json.dumps(i) for i in (before, with_helper, teacher_identity(config, tmp_path))}) == 3


def test_a_package_counts_as_a_whole(tmp_path: Path) -> None:
    package = tmp_path / "teacherpackage" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "teacherpackage" / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    (package / "deep.py").write_text("x = 1\n")
    config = TeacherConfig(model="teacherpackage.inner.deep:build", pretrained=True)
    before = teacher_identity(config, tmp_path)
    (package / "deep.py").write_text("x = 2\n")
    assert teacher_identity(config, tmp_path) != before


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"width": 2}},
        {"pretrained": False, "fit": FitConfig()},
        {"resolution": 64},
        {"model": "timm:resnet34"},
    ],
)
def test_options_count(change: dict[str, object], tmp_path: Path) -> None:
    config = TeacherConfig(model="timm:resnet18", pretrained=True)
    assert teacher_identity(config, tmp_path) != teacher_identity(config.model_copy(update=change), tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    local(tmp_path)
    with pytest.raises(InputError, match="my_taecher") as caught:
        teacher_identity(TeacherConfig(model="my_taecher:build", pretrained=True), tmp_path)
    assert "my_teacher" in caught.value.fix
    with pytest.raises(InputError, match="does not exist"):
        teacher_identity(TeacherConfig(model="timm:resnet18", checkpoint=tmp_path / "none"), tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        teacher_identity(TeacherConfig(model="timm:resnet18", checkpoint=tmp_path), tmp_path)


def test_neither_torch_nor_timm_nor_the_module_is_imported(tmp_path: Path) -> None:
    local(tmp_path, "raise RuntimeError('imported')\n")
    program = f"""
import sys
from pathlib import Path
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.distill.teachers.identity import teacher_identity
for model in ("my_teacher:build", "timm:resnet18"):
    teacher_identity(TeacherConfig(model=model, pretrained=True), Path({str(tmp_path)!r}))
assert not {{"torch", "timm", "my_teacher"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)

"""What is said of a path that is not there, or that cannot be written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.paths import nearest, require_file, require_writable


def test_the_nearest_name_beside_it(tmp_path: Path) -> None:
    for name in ("photos", "photographs", "build.toml"):
        (tmp_path / name).mkdir()
    assert nearest(tmp_path / "phots", "check") == f"did you mean {tmp_path / 'photos'}?"
    assert nearest(tmp_path / "something", "check") == "check"


def test_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    assert nearest(Path("modle.onnx"), "") == "did you mean model.onnx?"


@pytest.mark.parametrize("path", ["absent/model.onnx", "null\0byte/x", "/" + "x" * 5000 + "/y"])
def test_where_nothing_can_be_looked_at(path: str) -> None:
    assert nearest(Path(path), "check the path") == "check the path"


def test_a_file_is_there_or_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    require_file(tmp_path / "model.onnx", "name an .onnx file")
    for path, told, fix in (
        (tmp_path, "is a folder", "name an .onnx file"),
        (tmp_path / "models.onnx", "does not exist", f"did you mean {tmp_path / 'model.onnx'}?"),
        (tmp_path / "z", "does not exist", "name an .onnx file"),
    ):
        with pytest.raises(InputError) as caught:
            require_file(path, "name an .onnx file")
        assert (caught.value.message, caught.value.fix) == (f"{path} {told}", fix)


def test_a_file_can_be_written_or_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_writable(Path("page.html"))
    require_writable(tmp_path / "page.html")
    (tmp_path / "page.html").touch()
    require_writable(tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"], "it only looks"
    for path, told in ((tmp_path, "is a folder"), (Path("absent/page.html"), "lies in a folder that there is not")):
        with pytest.raises(InputError, match=told) as caught:
            require_writable(path)
        assert str(path) in caught.value.message and caught.value.fix


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_told() -> None:
    with pytest.raises(InputError, match="cannot be written to, /proc: "):
        require_writable(Path("/proc/page.html"))

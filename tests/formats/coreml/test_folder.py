"""A Core ML package is looked through before it is read: paths, links, sizes and the manifest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.formats.coreml.folder import check_folder
from edgedistill.formats.coreml.package import read_package

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links of POSIX")

CONTENT = "com.apple.CoreML"
MODEL, WEIGHTS = "one", "two"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package as coremltools writes it; its files hold nothing."""
    path = tmp_path / "inner" / "model.mlpackage"
    weights = path / "Data" / CONTENT / "weights"
    weights.mkdir(parents=True)
    (weights / "weight.bin").write_bytes(bytes(64))
    (weights.parent / "model.mlmodel").write_bytes(b"")
    entries = {
        MODEL: {
            "author": CONTENT,
            "description": "the model",
            "name": "model.mlmodel",
            "path": f"{CONTENT}/model.mlmodel",
        },
        WEIGHTS: {"author": CONTENT, "description": "its weights", "name": "weights", "path": f"{CONTENT}/weights"},
    }
    document = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": MODEL}
    (path / "Manifest.json").write_text(json.dumps(document))
    return path


def edit(package: Path, change: Callable[[Any], object]) -> None:
    path = package / "Manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_the_manifest_of_a_whole_package_is_as_it_was(package: Path) -> None:
    assert json.loads(check_folder(package)) == json.loads((package / "Manifest.json").read_text())


def test_the_manifest_that_is_read_is_the_one_that_was_checked(package: Path) -> None:
    """Two entries of one name: readers differ in which of them they take."""
    path = package / "Manifest.json"
    text = path.read_text()
    path.write_text(text.replace(f'"path": "{CONTENT}/weights"', f'"path": "../secret", "path": "{CONTENT}/weights"'))
    checked = check_folder(package)
    assert "secret" not in checked
    assert json.loads(checked) == json.loads(text)


def out_of_it(document: Any, path: str) -> None:
    document["itemInfoEntries"][MODEL]["path"] = path


@pytest.mark.parametrize(
    "path", ["../../../secret", f"{CONTENT}/../../../../secret", "/etc/passwd", f"../Data/{CONTENT}"]
)
def test_paths_out_of_the_package_are_refused_by_their_words(package: Path, path: str) -> None:
    (package.parents[1] / "secret").write_bytes(b"")
    edit(package, lambda document: out_of_it(document, path))
    with pytest.raises(InputError, match=r"its Manifest\.json names .* leads out of the package") as caught:
        check_folder(package)
    assert caught.value.fix


def link(place: Path, goal: str) -> None:
    if place.is_dir():
        place.rename(place.with_name("moved"))
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(goal)


@pytest.mark.parametrize(
    "place",
    ["Manifest.json", "Data", f"Data/{CONTENT}/model.mlmodel", f"Data/{CONTENT}/weights/weight.bin", "Data/note"],
)
@pytest.mark.parametrize("goal", ["secret", "/dev/zero"])
def test_links_out_of_the_package_are_refused(package: Path, place: str, goal: str) -> None:
    secret = package.parents[1] / "secret"
    secret.mkdir()
    link(package / place, str(secret) if goal == "secret" else goal)
    with pytest.raises(InputError, match=f"{place} leads out of the package") as caught:
        check_folder(package)
    assert caught.value.fix


def test_a_link_inside_the_package_is_followed(package: Path) -> None:
    weights = package / "Data" / CONTENT / "weights"
    (weights / "weight.bin").rename(weights / "real.bin")
    (weights / "weight.bin").symlink_to("real.bin")
    check_folder(package)
    (package.parent / "other.mlpackage").symlink_to(package)
    check_folder(package.parent / "other.mlpackage")


def circle(package: Path) -> None:
    link(package / "Data" / CONTENT / "weights" / "weight.bin", "weight.bin")


def pipe(package: Path) -> None:
    path = package / "Data" / CONTENT / "weights" / "weight.bin"
    path.unlink()
    os.mkfifo(path)


def long_manifest(package: Path) -> None:
    (package / "Manifest.json").write_text(" " * (2**20 + 1))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (circle, r"weight\.bin cannot be opened"),
        (pipe, r"weight\.bin is neither a file nor a folder"),
        (lambda package: (package / "Manifest.json").unlink(), r"is damaged: Manifest\.json is missing"),
        (lambda package: (package / "Manifest.json").write_bytes(b"\xff"), "is not one .*utf-8"),
        (lambda package: (package / "Manifest.json").write_text("{}"), "is not one .*missing: itemInfoEntries"),
        (lambda package: (package / "Manifest.json").write_text("[" * 10**5), "is not one .*recursion"),
        (long_manifest, r"its Manifest\.json has 1\.0 MiB"),
        (lambda package: edit(package, lambda d: d["itemInfoEntries"].clear()), "holds no model: .* has no entries"),
        (lambda package: edit(package, lambda d: d.update(itemInfoEntries=[])), "is not one"),
        (lambda package: edit(package, lambda d: d.update(rootModelIdentifier="x")), "does not say which entry it is"),
        (lambda package: edit(package, lambda d: d.update(rootModelIdentifier=1)), "values that are no text"),
        (lambda package: edit(package, lambda d: out_of_it(d, "a\0b")), "values that are no text"),
        (lambda package: edit(package, lambda d: out_of_it(d, "")), "has no path"),
        (lambda package: edit(package, lambda d: out_of_it(d, "nowhere")), "Data/nowhere is missing"),
        (lambda package: edit(package, lambda d: out_of_it(d, "\ud800")), "no name of a file"),
        (lambda package: edit(package, lambda d: out_of_it(d, "x" * 5000)), "cannot be opened"),
    ],
)
def test_damage_is_told_with_its_cause_and_a_way_out(
    package: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(package)
    with pytest.raises(EdgedistillError, match=words) as caught:
        check_folder(package)
    assert caught.value.fix


def test_files_of_terabytes_are_refused_by_their_sizes(package: Path) -> None:
    with (package / "Data" / CONTENT / "weights" / "weight.bin").open("r+b") as stream:
        stream.truncate(2**40)
    words = r"files of 1024\.0 GiB by their sizes, though only .*KiB lie on the disk; a package may have 16\.0 GiB"
    with pytest.raises(InputError, match=words) as caught:
        check_folder(package)
    assert caught.value.fix


def test_the_reader_looks_before_it_reads(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

    def opened(*arguments: object, **options: object) -> None:
        raise AssertionError("coremltools was given the package")

    monkeypatch.setattr("coremltools.models.MLModel", opened)
    edit(package, lambda document: out_of_it(document, "../../../secret"))
    with pytest.raises(InputError, match="leads out of the package"):
        read_package(package)

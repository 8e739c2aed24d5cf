"""`package diff` tells what an app gets with another package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_package import CONTRACT, small_package

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.documents.answers import PackageDiff
from edgedistill.outputs.package.integrity import write_sums


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("first"), coreml=False)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of other weights, with one more label, another background and a crop."""
    labels = ("ant", "bee", "cat", "owl")
    contract = CONTRACT.model_copy(update={"labels": labels, "background": (0, 0, 0), "crop": "center"})
    return small_package(tmp_path_factory.mktemp("second"), coreml=False, contract=contract, seed=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(40):
        path = folder / CONTRACT.labels[number % 4] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20 + number, 3), dtype=np.uint8)).save(path)
    return folder


def test_a_package_and_itself_are_the_same(first: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["package", "diff", str(first), str(first.parent), "--data", str(photos), "--split", "train"]
    assert run([*command, "--max-changed", "0%", "--json"]) == 0
    found = PackageDiff.model_validate_json(capsys.readouterr().out)
    (file,) = found.files
    assert found.contract == () and found.ok and file.files == ("student-fp32.onnx",) * 2
    assert file.on_golden is not None and file.on_golden.model_dump() == {
        "images": 4, "changed": 0, "gained": None, "lost": None
    }  # fmt: skip
    assert file.on_data is not None and (file.on_data.changed, file.on_data.gained, file.on_data.lost) == (0, 0, 0)
    assert run([*command]) == 0
    assert "an app does the same with both" in capsys.readouterr().out


def test_another_temperature_and_threshold_are_said(first: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(first, tmp_path / "package"))
    document = json.loads((other / "contract.json").read_text())
    document["files"]["student-fp32.onnx"] |= {"temperature": 1.5, "none_below": None}
    (other / "contract.json").write_text(json.dumps(document))
    write_sums(other)
    assert api.diff_packages(first, other).contract == (
        "student-fp32.onnx: the temperature was 2.000 and is 1.500",
        "student-fp32.onnx: the threshold of none of these was 0.300 and is none",
    )


def test_what_an_app_has_to_do_otherwise_is_said(first: Path, second: Path) -> None:
    assert api.diff_packages(first, second).contract == (
        "labels that are gone: dog",
        "new labels: owl",
        "the step composite: background (240, 240, 240) is now (0, 0, 0)",
        "the step crop is new",
    )


def test_changed_answers_are_counted_by_label_and_gated(
    first: Path, second: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = api.diff_packages(first, second, data=str(photos), split="train")
    (file,) = found.files
    answers = [
        {path: api.run(one / "student-fp32.onnx", path).top[0].label for path in sorted(photos.rglob("*.png"))}
        for one in (first, second)
    ]
    on_data = file.on_data
    assert on_data is not None and 0 < on_data.changed <= on_data.images == 28
    changed = sum(answers[0][path] != answers[1][path] for path in answers[0])
    assert changed * 28 / 40 == pytest.approx(on_data.changed, abs=8), "of all pictures, about as many"
    assert run(["package", "diff", str(first), str(second), "--max-changed", "100%"]) == 0
    assert run(["package", "diff", str(first), str(second), "--max-changed", "0%"]) == 3
    assert "MISSED" in capsys.readouterr().out


def test_nothing_is_compared_of_what_is_damaged_or_no_package(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(first, tmp_path / "package"))
    (damaged / "labels.txt").write_text("other")
    with pytest.raises(InputError, match="not as it was built"):
        api.diff_packages(first, damaged)
    assert run(["package", "diff", str(first), str(tmp_path / "nowhere")]) == 2
    assert run(["package", "diff", str(first), str(first), "--max-changed", "many"]) == 2
    assert capsys.readouterr().err.count("error:") == 2

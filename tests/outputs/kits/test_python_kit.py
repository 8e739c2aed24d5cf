"""The Python kit: its self-test, and what it makes of odd pictures."""

from __future__ import annotations

import importlib
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from odd_pictures import odd_pictures
from PIL import Image
from small_package import NONE_BELOW, TEMPERATURE, small_package

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.base.store import file_sha256
from edgedistill.cli.app import run
from edgedistill.data.images import read_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.documents.package import KitLatency, preparation
from edgedistill.documents.specs import Contract


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("small"), coreml=False)


@pytest.fixture(scope="module")
def kit(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python") / "kit"
    api.kit(package, platform="python", out=folder)
    return folder


@pytest.fixture(scope="module")
def classifier(kit: Path) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(kit))
        for name in ("classifier", "pinned"):
            patch.delitem(sys.modules, name, raising=False)
        return importlib.import_module("classifier")


def self_test(python: Path | str, kit: Path) -> str:
    command = [str(python), "-m", "unittest"]
    done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_its_self_test_passes(kit: Path) -> None:
    assert "Ran 2 tests" in self_test(sys.executable, kit)


def test_wrong_preprocessing_fails_its_self_test(kit: Path) -> None:
    script = kit / "classifier.py"
    text = script.read_text()
    try:
        script.write_text(text.replace("layered = picture.convert", "layered = picture.convert('RGB').convert"))
        with pytest.raises(AssertionError, match="FAILED"):
            self_test(sys.executable, kit)
    finally:
        script.write_text(text)


@pytest.mark.slow
def test_its_self_test_passes_in_a_new_environment(kit: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", kit / "requirements.txt"], check=True)
    assert "Ran 2 tests" in self_test(python, kit)


def test_odd_pictures_become_what_the_build_makes_of_them(classifier: ModuleType, tmp_path: Path) -> None:
    contract = Contract(
        resolution=33,
        resize_filter="bicubic",
        crop="center",
        background=(10, 200, 30),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        labels=("a", "b"),
    )
    model = object.__new__(classifier.Model)
    model.contract = {"preparation": [step.model_dump() for step in preparation(contract)]}
    for number, (kind, picture) in enumerate(odd_pictures()):
        path = tmp_path / f"{number}.{kind}"
        picture.save(path, kind)
        with Image.open(path) as opened:
            found = model.prepare(opened)
        expected = resize(read_rgb(path, contract.background), contract)
        np.testing.assert_array_equal(found.transpose(2, 0, 1), expected, f"{number} {picture.mode} {picture.size}")


def test_it_classifies_as_run_does(classifier: ModuleType, package: Path, tmp_path: Path) -> None:
    Image.effect_mandelbrot((301, 220), (-2, -1, 1, 1), 50).save(tmp_path / "x.png")
    model = classifier.Model()
    with Image.open(tmp_path / "x.png") as opened:
        found = model.classify(opened)
    assert (model.temperature, model.none_below) == (TEMPERATURE, NONE_BELOW)
    assert [model.is_none([("a", NONE_BELOW + step)]) for step in (-0.01, 0.0)] == [True, False]
    expected = api.run(package / "student-fp32.onnx", tmp_path / "x.png").top
    assert [label for label, _ in found] == [guess.label for guess in expected]
    np.testing.assert_allclose([share for _, share in found], [guess.probability for guess in expected], atol=1e-5)


def test_it_says_what_it_takes_in_a_form_to_send_back(classifier: ModuleType, package: Path) -> None:
    latency = KitLatency.model_validate(classifier.Model().latency())
    assert (latency.platform, latency.file, latency.runs) == ("python", "student-fp32.onnx", 50)
    assert latency.sha256_sums == file_sha256(package / "SHA256SUMS")
    assert 0 < latency.run_p50_ms <= latency.run_p95_ms and latency.load_ms > 0


def test_a_kit_is_not_made_over_anything_or_of_a_damaged_package(
    package: Path, kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kit", str(package), "--platform", "python", "--out", str(kit)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["kit", str(package), "--platform", "phone", "--out", str(tmp_path / "kit")]) == 2
    assert "there is no kit for 'phone'" in capsys.readouterr().err
    damaged = small_package(tmp_path, coreml=False)
    (damaged / "labels.txt").write_text("other")
    with pytest.raises(InputError, match="not as it was built"):
        api.kit(damaged, platform="python", out=tmp_path / "kit")
    assert not (tmp_path / "kit").exists()


def test_by_default_a_kit_lies_beside_its_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_package(tmp_path, coreml=False)
    assert run(["kit", str(tmp_path), "--platform", "python"]) == 0
    assert (tmp_path / "kit-python" / "README.md").read_text().startswith("# 4 classes: a Python program")
    assert "next: cd" in capsys.readouterr().out

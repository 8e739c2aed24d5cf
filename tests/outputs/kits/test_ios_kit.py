"""The Swift package: built on Linux, where its own tests run but for what is Apple's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_package import small_package

import edgedistill as api

pytestmark = [
    pytest.mark.skipif(shutil.which("swift") is None, reason="needs Swift"),
    pytest.mark.skipif(sys.platform != "linux", reason="Xcode runs them elsewhere"),
]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = small_package(tmp_path_factory.mktemp("small"))
    folder = tmp_path_factory.mktemp("ios") / "kit"
    assert api.kit(package, platform="ios", out=folder).file == "student-fp16.mlpackage"
    return folder


def swift_test(kit: Path) -> tuple[int, str]:
    done = subprocess.run(["swift", "test"], cwd=kit, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_it_builds_and_its_tests_pass_and_find_wrong_preprocessing(kit: Path) -> None:
    code, told = swift_test(kit)
    assert code == 0, told
    assert "Executed 7 tests, with 0 failures" in told
    source = kit / "Sources" / "Classifier" / "Preprocess.swift"
    text = source.read_text()
    source.write_text(
        text.replace("if pixels.channels == 3 { return pixels }", "let background: [UInt8] = [0, 0, 0]", 1)
    )
    code, told = swift_test(kit)
    assert code != 0 and "testEachGoldenPictureIsPreparedAsTheBuildDid" in told
    assert "error:" in told and "golden/picture-003.png" in told, told

"""The same file in onnxruntime-node: it gives the golden outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from npm import npm_install
from PIL import Image
from small_package import small_package

from edgedistill.outputs.package.replay import read_golden

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
NAME = "student-fp32.onnx"


def test_the_golden_outputs_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, golden = small_package(tmp_path, coreml=False), read_golden(tmp_path / "package")
    monkeypatch.setenv("ONNXRUNTIME_NODE_INSTALL", "skip")  # it has the CPU's library, and would fetch CUDA's
    folder = tmp_path / "node"
    folder.mkdir()
    npm_install(folder, "onnxruntime-node")
    shutil.copy(Path(__file__).with_name("node.mjs"), folder)
    images = [np.asarray(Image.open(package / picture.prepared)).transpose(2, 0, 1) for picture in golden.pictures]
    command = ["node", "node.mjs", str(package), NAME]
    done = subprocess.run(command, cwd=folder, input=np.stack(images).tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    expected = golden.files[NAME]
    assert np.abs(np.array(json.loads(done.stdout)) - np.array(expected.outputs)).max() <= expected.tolerance

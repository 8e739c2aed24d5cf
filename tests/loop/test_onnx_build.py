"""One small build for this machine: ONNX Runtime, real files, real measurements."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.outputs.package.package import package_problems

pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "report-and-package.md"
BUILDER = importlib.util.find_spec("tensorrt_rtx") is not None
FORMATS = ["onnx", "tensorrt"] if BUILDER else ["onnx"]
EDITS = (
    (
        "[profile]",
        f'[export]\nformats = {json.dumps(FORMATS)}\nprecisions = ["int8"]\nmax_quality_loss = "50%"\n\n[profile]',
    ),
    ('pause = "1ms"', 'pause = "1ms"\nsession = "500ms"\ncompare = "300ms"'),
)


@pytest.mark.slow
def test_a_build_for_this_machine(loop: Any) -> None:
    import onnxruntime

    built = loop.build(loop.write("onnx", "100ms", *EDITS), target="host")
    result = built.result
    assert result.status == "met", result.verdict
    assert {a.format for a in result.artifacts} == set(FORMATS)
    assert package_problems(built.out, result) == ()
    assert result.proof.met
    for artifact in result.artifacts:
        seen = edgedistill.inspect(built.out / artifact.path)
        assert (seen.sha256, seen.precision) == (artifact.sha256, artifact.precision)
        assert seen.layers and seen.operations and seen.contract is not None
        if artifact.format == "tensorrt":
            continue
        assert isinstance(artifact.latency, MeasuredLatency)
        assert artifact.latency.p95_ms <= 100
        assert artifact.parity.top1_agreement > 0.5
        session = onnxruntime.InferenceSession(str(built.out / artifact.path), providers=["CPUExecutionProvider"])
        side = result.student.resolution
        (logits,) = session.run(["logits"], {"image": np.zeros((1, 3, side, side), np.uint8)})
        assert logits.shape == (1, 10)
        assert np.isfinite(logits).all()
    (replay,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", replay], cwd=built.out / "package", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
    again = loop.build(built.path, target="host")
    assert again.notes == ["nothing has changed since this build"]

"""The script that takes a session of the proof again: it runs as it stands in the report, on real files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgedistill.documents.measurements import Profile
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Format
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.report.html import render_report
from edgedistill.outputs.report.repeat import repeat_command, repeat_script

LAYERS = {"student": 1, "teacher": 40}


def write_model(path: Path, side: int, layers: int) -> None:
    """A chain of 3x3 convolutions of three channels on images of bytes."""
    nodes = [helper.make_node("Cast", ["image"], ["x0"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Conv", [f"x{n}", "w"], [f"x{n + 1}"], pads=[1] * 4) for n in range(layers)]
    nodes += [helper.make_node("ReduceMean", [f"x{layers}", "axes"], ["logits"], keepdims=0)]
    weights = np.full((3, 3, 3, 3), 1 / 27, np.float32)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel()),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with a student of 16 px and a teacher of 32 px, which takes many times as long."""
    (tmp_path / "package/golden").mkdir(parents=True)
    write_model(tmp_path / "package/student-int8.onnx", 16, LAYERS["student"])
    write_model(tmp_path / "teacher.onnx", 32, LAYERS["teacher"])
    Image.new("RGB", (16, 16)).save(tmp_path / "package/golden/prepared-000.png")
    return tmp_path


def shortened(result: BuildResult) -> BuildResult:
    """With sessions of a moment."""
    assert result.proof is not None
    return result.model_copy(update={"proof": result.proof.model_copy(update={"session_s": 0.3})})


def run(script: str, folder: Path) -> str:
    (folder / "again.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "again.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_proof_in_milliseconds_is_taken_again_alone(out: Path, realistic: ModuleType) -> None:
    result = shortened(realistic.make_proven_in_ms())
    script = repeat_script(result, realistic.make_profile("a", 0.2))
    assert "teacher" not in script
    found = re.fullmatch(r"([\d.e-]+) ms at p95\n", run(script, out))
    assert found is not None and 0 < float(found[1]) < 50


def test_a_share_of_the_teacher_is_taken_again_in_turn_with_it(out: Path, realistic: ModuleType) -> None:
    result = shortened(realistic.make_result())
    script = repeat_script(result, realistic.make_profile("a", 0.2, anchor_ms=2.0))
    found = re.fullmatch(r"([\d.]+)% of the teacher's at p(95|50)\n", run(script, out))
    assert found is not None and 0 < float(found[1]) < 60


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize("there", [True, False])
def test_it_pins_itself_as_the_build_did_or_to_as_many_of_what_there_is(
    out: Path, realistic: ModuleType, there: bool
) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    cpus = (allowed[0],) if there else (4000,)
    profile: Profile = realistic.make_profile("a", 0.2)
    pinned = profile.model_copy(update={"environment": profile.environment.model_copy(update={"pinned_cpus": cpus})})
    script = repeat_script(shortened(realistic.make_proven_in_ms()), pinned)
    shown = run(f"{script}print(os.sched_getaffinity(0))\n", out)
    assert shown.splitlines()[-1] == str({allowed[0] if there else allowed[-1]})


def test_the_page_shows_the_script_and_how_often_to_run_it(realistic: ModuleType) -> None:
    result, profile = realistic.make_result(), realistic.make_profile("a", 0.2, anchor_ms=2.0)
    assert repeat_command(result) == "for i in $(seq 22); do python again.py; sleep 0.5; done"
    page = render_report(result, ReportProfiles(profile))
    assert "for i in $(seq 22); do python again.py" in page
    assert "student = load(&#39;package/student-int8.onnx&#39;" in page


def test_what_cannot_be_repeated_so_says_why(realistic: ModuleType) -> None:
    result, profile = realistic.make_result(), realistic.make_profile("a", 0.2, anchor_ms=2.0)
    without = result.model_copy(update={"teacher": result.teacher.model_copy(update={"files": ()})})
    assert repeat_script(without, profile) == ""
    assert "--no-teacher" in render_report(without, ReportProfiles(profile))
    first, *rest = result.artifacts
    other = result.model_copy(update={"artifacts": (first.model_copy(update={"format": Format.LITERT}), *rest)})
    assert repeat_script(other, profile) == ""
    assert "The file is not ONNX" in render_report(other, ReportProfiles(profile))
    assert "There is no proof to repeat." in render_report(realistic.make_unmeasured(), ReportProfiles())

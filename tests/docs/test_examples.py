"""The examples load, and Fashion-MNIST runs from end to end: in a reduced form, and whole where there is time."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from huggingface_hub import ModelCard

import edgedistill as api
from edgedistill import verify_package
from edgedistill.data.fingerprint import IDX_FILES, idx_files
from edgedistill.data.idx import read_idx
from edgedistill.documents.build_file import load_config
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.package import Manifest, PackageContract
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Probabilities
from edgedistill.documents.targets import load_target, target_names
from edgedistill.formats.onnx.metadata import read_metadata
from edgedistill.outputs.package.package import package_problems

EXAMPLES = Path(__file__).parents[2] / "examples"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
needs_fashion_mnist = pytest.mark.skipif(
    not FASHION_MNIST.is_dir() or set(idx_files(FASHION_MNIST)) != set(IDX_FILES),
    reason="needs Debian's package dataset-fashion-mnist",
)
SMALLER = """
[export]
formats = ["onnx"]
precisions = ["fp32", "int8"]
max_quality_loss = "50%"

[profile]
session = "500ms"
pause = "1ms"
compare = "300ms"
"""


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/build.toml")))
def test_an_example_loads(name: str) -> None:
    path = EXAMPLES / name / "build.toml"
    config = load_config(path)
    assert load_target(config.target).name in target_names()
    assert f"edgedistill build examples/{name}/build.toml --target {config.target}" in path.read_text()
    assert config.budget.share_of_teacher is not None, "an example's budget moves with the machine"


def test_there_are_the_examples_that_the_readme_names() -> None:
    assert {"clipart", "digits", "fashion_mnist"} <= {path.parent.name for path in EXAMPLES.glob("*/build.toml")}


def reduced(name: str, folder: Path, **values: str) -> Path:
    """An example with fewer epochs, images and candidates, its other lines as they are."""
    text = (EXAMPLES / name / "build.toml").read_text()
    for key, value in values.items():
        text, found = re.subn(rf"^{key} *=.*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert found == 1, key
    assert "[export]" not in text
    assert "[profile]" not in text
    path = folder / "build.toml"
    path.write_text(text + SMALLER)
    return path


def first_images(folder: Path, train: int, test: int) -> Path:
    """The data set's four files with fewer images in them, in `folder`."""
    folder.mkdir()
    for role, path in idx_files(FASHION_MNIST).items():
        array = read_idx(path, 3 if role.endswith("images") else 1)[: train if role.startswith("train") else test]
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / path.name).write_bytes(gzip.compress(header + array.tobytes()))
    return folder


@needs_fashion_mnist
@pytest.mark.slow
def test_fashion_mnist_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    path = reduced(
        "fashion_mnist",
        tmp_path,
        fit="{ epochs = 2, batch_size = 32 }",
        path=f'"{first_images(tmp_path / "images", 1000, 300)}"',
        views="2",
        probes="2",
        candidates="1",
        rungs="[2]",
        batch_size="64\nrecipe = 'kd'",
        resolution="16",
        resolutions='[16]\nfamilies = ["mobilenetv4"]\nwidths = [0.25]\ndepths = [0.5]',
        budget='"100ms@p95"',  # far off: whether a budget is met must not hang on what else runs here
    )
    result = api.build(path)
    assert result.status == "met", result.verdict
    assert (result.data.classes, result.data.train, result.data.test) == (10, 900, 300)
    assert package_problems(tmp_path / "out", result) == ()
    assert result.artifacts[0].latency.kind == "measured"
    # A tenth would be guessing.
    assert result.teacher.quality > 0.2
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    reproduced = [sys.executable, str(EXAMPLES.parent / "benchmarks" / "reproduce_latency.py"), str(tmp_path / "out")]
    done = subprocess.run([*reproduced, "--sessions", "2", "--pause", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 of 2 inside 100.0000" in done.stdout, done.stdout + done.stderr
    said_later(path, result)


def said_later(path: Path, first: BuildResult) -> None:
    """What `[package]` says after a build goes into its files, and nothing is trained or measured again."""
    path.write_text(path.read_text() + '\n[package]\nname = "clothes"\nlicense = "mit"\nnone_of_these = "10%"\n')
    done = path.parent / "out" / "stages.jsonl"
    before = len(done.read_text().splitlines())
    result = api.build(path)
    new = [json.loads(line)["stage"] for line in done.read_text().splitlines()[before:]]
    assert set(new) == {"metadata"}, new
    assert result.proof == first.proof and result.proof is not None
    package = path.parent / "out" / "package"
    contract = PackageContract.model_validate_json((package / "contract.json").read_text())
    manifest = Manifest.model_validate_json((package / "manifest.json").read_text())
    assert (manifest.about.name, manifest.about.license, manifest.about.author) == ("clothes", "mit", "")
    assert manifest.settings["package"] == {"name": "clothes", "license": "mit", "none_of_these": 0.1}
    assert manifest.study is not None and manifest.study.trials == len(result.trials)
    for artifact, old in zip(result.artifacts, first.artifacts, strict=True):
        assert artifact.measured_sha256 == old.measured_sha256 and artifact.sha256 != old.sha256
        name = artifact.path.removeprefix("package/")
        assert manifest.artifacts[name].measured_sha256 == artifact.measured_sha256
        entries = read_metadata(onnx.load(package / name))
        assert (entries["name"], entries["license"]) == ("clothes", "mit")
        own = Probabilities.model_validate_json(entries["edgedistill.probabilities"])
        assert (own.temperature, own.none_below) == (contract.files[name].temperature, contract.files[name].none_below)
        assert own.none_below is not None
    told = result.predictions_on_test
    assert told is not None and told.confidence is not None and told.confidence.none_below is not None
    assert sum(bin.images for bin in told.confidence.bins) == told.images
    card: Any = ModelCard((package / "MODEL_CARD.md").read_text())
    assert (card.data.license, card.data.model_name, card.data.base_model) == ("mit", "clothes", None)
    (figure,) = card.data.eval_results
    shipped = next(a for a in result.artifacts if a.as_measured == result.proof.artifact_sha256)
    assert figure.metric_value == pytest.approx(shipped.quality, abs=1e-4)
    for picture in re.findall(r"\]\((card/[^)]+)\)", card.content):
        assert (package / picture).is_file()
    assert verify_package(package).failures == ()
    # With its measurements in the cache the same build gives the same bytes.
    sums = (package / "SHA256SUMS").read_text()
    shutil.rmtree(package)
    api.build(path)
    assert (package / "SHA256SUMS").read_text() == sums


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
@needs_fashion_mnist
def test_fashion_mnist_whole(tmp_path: Path) -> None:
    """As it stands, in the user's own cache: a run that was cut off goes on, and stages of an earlier build are reused."""
    result = api.build(EXAMPLES / "fashion_mnist" / "build.toml", out=tmp_path / "out")
    assert result.status == "met", result.verdict
    assert result.student is not None
    shipped = next(a for a in result.artifacts if result.proof and a.as_measured == result.proof.artifact_sha256)
    assert shipped.quality is not None
    assert shipped.quality > result.teacher.quality - 0.04
    assert isinstance(shipped.latency, MeasuredLatency)
    assert isinstance(result.teacher.latency, MeasuredLatency)
    assert shipped.latency.p95_ms < result.teacher.latency.p95_ms / 5
    rejected = [t.rungs[0].quality_validation for t in result.trials if t.state == "over_budget"]
    student = result.student.model_dump(include={"family", "width", "depth", "resolution"})
    won = next(t for t in result.trials if t.spec.model_dump(include=set(student)) == student)
    assert max(rejected, default=0.0) > won.rungs[0].quality_validation, "the budget binds"

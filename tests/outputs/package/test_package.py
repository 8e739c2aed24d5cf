"""The package: whole or not at all, and checked to the byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
from factories import make_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.store import file_sha256
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.package import GoldenDocument
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import ComputedBy, Contract, Format, Precision
from edgedistill.formats.carried import labels_text
from edgedistill.outputs.package.golden import (
    Golden,
    GoldenRun,
    golden_pictures,
    nudged,
    prepared_pictures,
    tolerance_of,
)
from edgedistill.outputs.package.package import (
    PackageContents,
    PackageFile,
    artifact_name,
    package_problems,
    write_package,
)

INPUTS = (TensorSignature(name="image", dtype="uint8", shape=(1, 3, 16, 16)),)
OUTPUTS = (TensorSignature(name="logits", dtype="float32", shape=(1, 10)),)


MANIFEST = make_manifest()


def golden(contract: Contract, count: int = 3) -> Golden:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(count + 1, 10)).astype(np.float32)
    pictures = golden_pictures(rng.integers(0, 256, (count, 40, 40, 3), dtype=np.uint8), contract)
    runs = {
        "student-int8.onnx": GoldenRun(ComputedBy.DEVICE, outputs, 0.5),
        "student-fp32.onnx": GoldenRun(ComputedBy.DEVICE, outputs, 0.1),
    }
    return Golden(pictures, runs)


def contents(folder: Path, contract: Contract, *, text: str = "model", trtexec: str = "") -> PackageContents:
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_text(text)
    inner = folder / "m.mlpackage/Data/com.apple.CoreML"
    inner.mkdir(parents=True, exist_ok=True)
    (inner / "model.mlmodel").write_text(text)
    (folder / "m.mlpackage/Manifest.json").write_text("{}")
    files = (
        PackageFile(Format.ONNX, Precision.INT8, folder / "m.onnx", "student-int8.onnx", INPUTS, OUTPUTS),
        PackageFile(
            Format.COREML, Precision.FP16, folder / "m.mlpackage", "student-fp16.mlpackage", INPUTS[:0], OUTPUTS
        ),
    )
    return PackageContents(files, contract, golden(contract), MANIFEST, "# card\n", "student-int8.onnx", trtexec)


def result_for(paths: tuple[Path, ...], out: Path, realistic: ModuleType) -> BuildResult:
    """A build whose artifacts are exactly the files at `paths`."""
    result: BuildResult = realistic.make_result()
    artifacts = tuple(
        a.model_copy(update={"path": p.relative_to(out).as_posix(), "sha256": file_sha256(p)})
        for a, p in zip(result.artifacts, paths, strict=False)
    )
    return result.model_copy(update={"artifacts": artifacts})


def test_a_package_holds_all_and_verifies(tmp_path: Path, realistic: ModuleType) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract(), trtexec="trtexec --onnx=x"))
    assert paths == (out / "package/student-int8.onnx", out / "package/student-fp16.mlpackage")
    assert [p.name for p in out.iterdir()] == ["package"]
    assert package_problems(out, result_for(paths, out, realistic)) == ()

    package = out / "package"
    listed = [line.split("  ")[1] for line in (package / "SHA256SUMS").read_text().splitlines()]
    there = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert len(listed) == len(there) and set(listed) == there
    assert "student-fp16.mlpackage/Data/com.apple.CoreML/model.mlmodel" in there


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_sums_are_checked_by_sha256sum(tmp_path: Path, realistic: ModuleType) -> None:
    write_package(tmp_path / "out", contents(tmp_path / "cache", realistic.make_contract()))
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "out/package", check=False).returncode == 0
    (tmp_path / "out/package/labels.txt").write_text("other\n")
    assert subprocess.run(command, cwd=tmp_path / "out/package", capture_output=True, check=False).returncode == 1


def test_documents_keep_the_schemas_beside_them(tmp_path: Path, realistic: ModuleType) -> None:
    write_package(tmp_path / "out", contents(tmp_path / "cache", realistic.make_contract()))
    package = tmp_path / "out/package"
    for name, document in (
        ("contract", "contract.json"),
        ("golden", "golden/golden.json"),
        ("manifest", "manifest.json"),
    ):
        schema = json.loads((package / "schemas" / f"{name}.schema.json").read_text())
        jsonschema.validate(json.loads((package / document).read_text()), schema)


def test_the_contract_says_how_each_file_takes_its_input(tmp_path: Path, realistic: ModuleType) -> None:
    contract = realistic.make_contract()
    write_package(tmp_path / "out", contents(tmp_path / "cache", contract))
    document = json.loads((tmp_path / "out/package/contract.json").read_text())
    assert document["input"]["normalization"] == "in_model" and "mean" not in json.dumps(document)
    assert document["preparation"] == [
        {"step": "orient", "by": "exif"},
        {"step": "composite", "background": [255, 255, 255]},
        {"step": "resize", "width": 16, "height": 16, "filter": "bilinear", "antialias": True},
    ]
    assert document["labels"] == list(contract.labels) and document["output"] == {"name": "logits", "width": 10}
    assert document["recommended"] == {
        "ios": "student-fp16.mlpackage",
        "android": "student-int8.onnx",
        "web": "student-int8.onnx",
        "python": "student-int8.onnx",
    }
    assert document["files"]["student-int8.onnx"]["tolerance"] == 0.5
    onnx, coreml = (document["files"][name]["input"] for name in ("student-int8.onnx", "student-fp16.mlpackage"))
    assert (onnx["kind"], onnx["dtype"], onnx["layout"], onnx["shape"]) == ("tensor", "uint8", "NCHW", [1, 3, 16, 16])
    assert (coreml["kind"], coreml["width"], document["input"]["color"]) == ("image", 16, "RGB")
    assert "dtype" not in coreml


@pytest.mark.parametrize("crop", ["stretch", "center"])
def test_golden_pictures_show_all_that_an_app_has_to_do(tmp_path: Path, realistic: ModuleType, crop: str) -> None:
    """By plain arithmetic and Pillow's resize."""
    contract = realistic.make_contract(crop=crop, background=(20, 120, 220))
    made = contents(tmp_path / "cache", contract)
    write_package(tmp_path / "out", made)
    package = tmp_path / "out/package"
    document = GoldenDocument.model_validate_json((package / "golden/golden.json").read_text())
    assert len(document.pictures) == 4
    for picture in document.pictures:
        pixels = np.asarray(Image.open(package / picture.file)).astype(np.int64)
        height, width, channels = pixels.shape
        assert (width, height) == (picture.width, picture.height) and width != height
        shown, alpha = pixels[..., :3], pixels[..., 3:] if channels == 4 else 255
        put = (2 * (shown * alpha + (255 - alpha) * np.array(contract.background)) + 255) // 510
        side = min(width, height)
        if crop == "center":
            top, left = (height - side) // 2, (width - side) // 2
            put = put[top : top + side, left : left + side]
        rows = Image.fromarray(put.astype(np.uint8)).resize((16, len(put)), Image.Resampling.BILINEAR)
        resized = rows.resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(np.asarray(Image.open(package / picture.prepared)), np.asarray(resized))
    transparent = np.asarray(Image.open(package / document.pictures[-1].file))
    assert transparent.shape[2] == 4 and transparent[..., 3].min() == 0 and transparent[..., 3].max() > 250
    assert all(picture.width % 2 and picture.height % 2 for picture in document.pictures[:-1])
    recorded = document.files["student-int8.onnx"]
    np.testing.assert_array_equal(np.array(recorded.outputs, np.float32), made.golden.runs["student-int8.onnx"].outputs)
    assert [row[0] for row in recorded.top] == np.argmax(np.array(recorded.outputs), axis=1).tolist()


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 64))
@settings(deadline=None, max_examples=50)
def test_a_golden_picture_is_odd_and_no_square(width: int, height: int, side: int) -> None:
    contract = Contract(resolution=side, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))
    picture, _ = golden_pictures([np.zeros((height, width, 3), np.uint8)], contract)
    found = picture.shape[:2]
    assert found[0] != found[1] and all(length % 2 == 1 for length in found)
    assert max(found) <= max(4 * side, 1) + 3


def test_a_tolerance_covers_a_step_of_one_in_every_byte_and_no_wrong_preprocessing() -> None:
    """Of a network that is linear in its pixels, so that the change of each is known."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3 * 16 * 16, 10)) / 255

    def outputs(images: Images) -> Logits:
        return (images.reshape(len(images), -1).astype(np.float64) @ weights).astype(np.float32)

    contract = Contract(resolution=16, mean=(0, 0, 0), std=(1, 1, 1), labels=tuple("abcdefghij"))
    smooth = np.cumsum(rng.integers(0, 9, (4, 45, 33, 3)), axis=1).astype(np.uint8)
    images = prepared_pictures(golden_pictures(smooth, contract), contract)
    own = outputs(images)
    tolerance = tolerance_of(own, outputs(nudged(images)))
    steps = rng.integers(-1, 2, images.shape)
    off_by_one = np.clip(images.astype(int) + steps, 0, 255).astype(np.uint8)
    assert np.abs(outputs(off_by_one) - own).max() <= tolerance
    assert np.abs(outputs(images[:, ::-1]) - own).max() > tolerance, "blue for red"
    assert np.abs(outputs(images[:, :, ::-1]) - own).max() > tolerance, "upside down"
    black = prepared_pictures(golden_pictures(smooth, contract), contract.model_copy(update={"background": (0, 0, 0)}))
    assert np.abs(outputs(black) - own).max() > tolerance, "another background"


@pytest.mark.parametrize(
    "spoil", ["student-int8.onnx", "student-fp16.mlpackage/Manifest.json", "golden/picture-000.png", "labels.txt"]
)
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_what_is_missing_or_changed_is_named(tmp_path: Path, realistic: ModuleType, spoil: str, how: str) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    result = result_for(paths, out, realistic)
    victim = out / "package" / spoil
    victim.write_text("other") if how == "changed" else victim.unlink()
    (problem,) = package_problems(out, result)
    assert problem.where == str(out / "package" / spoil)
    assert problem.fix


@pytest.mark.parametrize("text", ["", "\n", "abc", "0  a\n", f"{'0' * 64} a\n", f"{'0' * 64}  a"])
def test_broken_sums_are_a_problem_and_no_crash(tmp_path: Path, realistic: ModuleType, text: str) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    (out / "package/SHA256SUMS").write_text(text)
    (problem,) = package_problems(out, result_for(paths, out, realistic))
    assert "is damaged" in problem.what


def test_a_file_too_many_and_a_link_are_named(tmp_path: Path, realistic: ModuleType) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    result = result_for(paths, out, realistic)
    (out / "package/student-fp16.mlpackage/more").write_text("")
    (tmp_path / "labels.txt").write_bytes((out / "package/labels.txt").read_bytes())
    (out / "package/labels.txt").unlink()
    (out / "package/labels.txt").symlink_to(tmp_path / "labels.txt")
    assert {Path(problem.where).name: problem.what for problem in package_problems(out, result)} == {
        "more": "is not of the package",
        "labels.txt": "is a link, and not the file that was built",
    }


def test_a_whole_package_of_another_build_is_told_apart(tmp_path: Path, realistic: ModuleType) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    result = result_for(paths, out, realistic)
    write_package(out, contents(tmp_path / "cache", realistic.make_contract(), text="another model"))
    assert {problem.where for problem in package_problems(out, result)} == {str(path) for path in paths}


def test_no_package_at_all_is_reported_for_each_file(tmp_path: Path, realistic: ModuleType) -> None:
    result = realistic.make_result()
    problems = package_problems(tmp_path, result)
    assert [problem.what for problem in problems] == ["is missing"]
    assert package_problems(tmp_path, realistic.make_not_met()) == ()


def test_a_write_that_fails_leaves_the_old_package_whole(tmp_path: Path, realistic: ModuleType) -> None:
    out = tmp_path / "out"
    first = contents(tmp_path / "cache", realistic.make_contract())
    paths = write_package(out, first)
    result = result_for(paths, out, realistic)
    gone = PackageFile(Format.ONNX, Precision.FP32, tmp_path / "gone.onnx", "student-fp32.onnx", INPUTS, OUTPUTS)
    with pytest.raises(FileNotFoundError):
        write_package(out, PackageContents((*first.files, gone), first.contract, first.golden, MANIFEST, "card"))
    assert package_problems(out, result) == ()

    second = write_package(out, contents(tmp_path / "cache", realistic.make_contract(), text="a better model"))
    assert second[0].read_text() == "a better model"
    assert [p.name for p in out.iterdir()] == ["package"], "leftovers of the failed write are cleared"
    assert {p.where for p in package_problems(out, result)} == {str(path) for path in paths}


def test_a_package_outlives_the_cache_and_links(tmp_path: Path, realistic: ModuleType) -> None:
    made = contents(tmp_path / "cache", realistic.make_contract())
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "cache/m.onnx")
    file = PackageFile(Format.ONNX, Precision.INT8, link, "student-int8.onnx", INPUTS, OUTPUTS)
    (path,) = write_package(tmp_path / "out", PackageContents((file,), made.contract, made.golden, MANIFEST, "card"))
    assert path.is_file() and not path.is_symlink()


def test_the_engine_script_runs_its_command_inside_the_package(tmp_path: Path, realistic: ModuleType) -> None:
    write_package(tmp_path / "out", contents(tmp_path / "cache", realistic.make_contract(), trtexec="ls labels.txt"))
    done = subprocess.run([tmp_path / "out/package/build-engine.sh"], capture_output=True, text=True, check=True)
    assert done.stdout == "labels.txt\n"


def test_names_of_artifacts() -> None:
    assert artifact_name(Format.ONNX, Precision.INT8) == "student-int8.onnx"
    assert artifact_name(Format.COREML, Precision.FP16) == "student-fp16.mlpackage"
    assert artifact_name(Format.TENSORRT, Precision.FP16, (80, 86)) == "student-fp16-sm80-86.engine"


def test_two_artifacts_of_one_name_are_refused(tmp_path: Path, realistic: ModuleType) -> None:
    made = contents(tmp_path / "cache", realistic.make_contract())
    twice = PackageContents((made.files[0], made.files[0]), made.contract, made.golden, MANIFEST, "card")
    with pytest.raises(ValueError, match="one name"):
        write_package(tmp_path / "out", twice)


def test_a_label_stays_on_its_line() -> None:
    assert labels_text(("cat", "two\nlines", "naïve")).splitlines() == ["cat", "two\\nlines", "naïve"]


def test_golden_data_of_other_shapes_is_refused() -> None:
    picture = np.zeros((8, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        Golden((picture.astype(np.float32),), {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        Golden((picture, picture), {"a": GoldenRun(ComputedBy.DEVICE, np.zeros((1, 10), np.float32), 0.1)})


def test_the_check_imports_neither_torch_nor_a_vendors_sdk() -> None:
    code = (
        "import sys, edgedistill.outputs.package.package;"
        "heavy = {'torch', 'timm', 'onnx', 'onnxruntime', 'coremltools', 'plotly'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"

"""The package: whole or not at all, and checked to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.store import file_sha256
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.outputs.package.golden import Golden
from edgedistill.outputs.package.package import (
    PackageContents,
    PackageFile,
    artifact_name,
    labels_text,
    verify_package,
    write_package,
)

INPUTS = (TensorSignature(name="image", dtype="uint8", shape=(1, 3, 16, 16)),)
OUTPUTS = (TensorSignature(name="logits", dtype="float32", shape=(1, 10)),)


def golden(count: int = 3) -> Golden:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(count, 10)).astype(np.float32)
    images = rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    return Golden(images, reference, {"student-int8.onnx": reference + 0.25})


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
    return PackageContents(files, contract, golden(), "# card\n", trtexec)


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
    assert verify_package(out, result_for(paths, out, realistic)) == ()

    package = out / "package"
    listed = json.loads((package / "manifest.json").read_text())["files"]
    there = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()} - {"manifest.json"}
    inside = {name for name in there if name.startswith("student-fp16.mlpackage/")}
    assert set(listed) == (there - inside) | {"student-fp16.mlpackage"}
    assert all(file_sha256(package / name) == entry["sha256"] for name, entry in listed.items())


def test_the_contract_says_how_each_file_takes_its_input(tmp_path: Path, realistic: ModuleType) -> None:
    contract = realistic.make_contract()
    write_package(tmp_path / "out", contents(tmp_path / "cache", contract))
    document = json.loads((tmp_path / "out/package/contract.json").read_text())
    assert Contract.model_validate_json(json.dumps(document["contract"])) == contract
    onnx, coreml = (document["files"][name]["input"] for name in ("student-int8.onnx", "student-fp16.mlpackage"))
    assert (onnx["kind"], onnx["dtype"], onnx["layout"], onnx["shape"]) == ("tensor", "uint8", "NCHW", [1, 3, 16, 16])
    assert (coreml["kind"], coreml["width"], coreml["color"]) == ("image", 16, "RGB")
    assert "dtype" not in coreml


def test_golden_images_are_the_same_as_npy_and_png(tmp_path: Path, realistic: ModuleType) -> None:
    write_package(tmp_path / "out", contents(tmp_path / "cache", realistic.make_contract()))
    folder = tmp_path / "out/package/golden"
    images = np.load(folder / "images.npy")
    assert images.dtype == np.uint8
    for number, image in enumerate(images):
        png = np.asarray(Image.open(folder / f"image-{number:03d}.png"))
        np.testing.assert_array_equal(png.transpose(2, 0, 1), image)
    reference = np.load(folder / "reference.npy")
    np.testing.assert_allclose(np.load(folder / "student-int8.onnx.npy"), reference + 0.25)


@pytest.mark.parametrize("crop", ["stretch", "center"])
def test_a_golden_picture_shows_what_an_app_has_to_do_first(tmp_path: Path, realistic: ModuleType, crop: str) -> None:
    """By plain arithmetic and Pillow's resize."""
    contract = realistic.make_contract(crop=crop, background=(20, 120, 220))
    write_package(tmp_path / "out", contents(tmp_path / "cache", contract))
    package = tmp_path / "out/package"
    named = json.loads((package / "contract.json").read_text())["golden"]
    picture = np.asarray(Image.open(package / named["picture"])).astype(np.int64)
    assert picture.shape == (94, 151, 4) and picture[..., 3].min() == 0 and picture[..., 3].max() > 250
    shown, alpha = picture[..., :3], picture[..., 3:]
    put = (2 * (shown * alpha + (255 - alpha) * np.array(contract.background)) + 255) // 510
    if crop == "center":
        put = put[:, 28:122]
    resized = Image.fromarray(put.astype(np.uint8)).resize((16, 16), Image.Resampling.BILINEAR)
    prepared = np.asarray(Image.open(package / named["picture_prepared"]))
    np.testing.assert_array_equal(prepared, np.asarray(resized))


@pytest.mark.parametrize(
    "spoil", ["student-int8.onnx", "student-fp16.mlpackage/Manifest.json", "golden/images.npy", "labels.txt"]
)
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_what_is_missing_or_changed_is_named(tmp_path: Path, realistic: ModuleType, spoil: str, how: str) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    result = result_for(paths, out, realistic)
    victim = out / "package" / spoil
    victim.write_text("other") if how == "changed" else victim.unlink()
    (problem,) = verify_package(out, result)
    named = spoil.split("/")[0] if "mlpackage" in spoil else spoil
    assert problem.where == str(out / "package" / named)
    assert problem.fix


@pytest.mark.parametrize("text", ["", "[]", '{"files": [1]}', '{"files": {"a": {}}}'])
def test_a_broken_manifest_is_a_problem_and_no_crash(tmp_path: Path, realistic: ModuleType, text: str) -> None:
    out = tmp_path / "out"
    paths = write_package(out, contents(tmp_path / "cache", realistic.make_contract()))
    (out / "package/manifest.json").write_text(text)
    (problem,) = verify_package(out, result_for(paths, out, realistic))
    assert problem.what == "cannot be read"


def test_no_package_at_all_is_reported_for_each_file(tmp_path: Path, realistic: ModuleType) -> None:
    result = realistic.make_result()
    problems = verify_package(tmp_path, result)
    assert len(problems) == len(result.artifacts) + 1
    assert verify_package(tmp_path, realistic.make_not_met()) == ()


def test_a_write_that_fails_leaves_the_old_package_whole(tmp_path: Path, realistic: ModuleType) -> None:
    out = tmp_path / "out"
    first = contents(tmp_path / "cache", realistic.make_contract())
    paths = write_package(out, first)
    result = result_for(paths, out, realistic)
    gone = PackageFile(Format.ONNX, Precision.FP32, tmp_path / "gone.onnx", "student-fp32.onnx", INPUTS, OUTPUTS)
    with pytest.raises(FileNotFoundError):
        write_package(out, PackageContents((*first.files, gone), first.contract, first.golden, "card"))
    assert verify_package(out, result) == ()

    second = write_package(out, contents(tmp_path / "cache", realistic.make_contract(), text="a better model"))
    assert second[0].read_text() == "a better model"
    assert [p.name for p in out.iterdir()] == ["package"], "leftovers of the failed write are cleared"
    assert {p.where for p in verify_package(out, result)} == {str(path) for path in paths}


def test_a_package_outlives_the_cache_and_links(tmp_path: Path, realistic: ModuleType) -> None:
    made = contents(tmp_path / "cache", realistic.make_contract())
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "cache/m.onnx")
    file = PackageFile(Format.ONNX, Precision.INT8, link, "student-int8.onnx", INPUTS, OUTPUTS)
    (path,) = write_package(tmp_path / "out", PackageContents((file,), made.contract, made.golden, "card"))
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
    twice = PackageContents((made.files[0], made.files[0]), made.contract, made.golden, "card")
    with pytest.raises(ValueError, match="one name"):
        write_package(tmp_path / "out", twice)


def test_a_label_stays_on_its_line() -> None:
    assert labels_text(("cat", "two\nlines", "naïve")).splitlines() == ["cat", "two\\nlines", "naïve"]


def test_golden_data_of_other_shapes_is_refused() -> None:
    images = np.zeros((2, 3, 8, 8), np.uint8)
    logits = np.zeros((2, 10), np.float32)
    with pytest.raises(ValueError, match="uint8"):
        Golden(images.astype(np.float32), logits, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        Golden(images, logits, {"a": logits[:1]})


def test_the_check_imports_neither_torch_nor_a_vendors_sdk() -> None:
    code = (
        "import sys, edgedistill.outputs.package.package;"
        "heavy = {'torch', 'timm', 'onnx', 'onnxruntime', 'coremltools', 'plotly'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"

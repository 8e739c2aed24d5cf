"""The reference interpreter beside torch: whole students at every precision, and single operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.data.preprocessing import make_contract
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, Precision, QuantScheme, StudentSpec
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.coreml.package import read_package
from edgedistill.formats.coreml.quantize import quantize_coreml
from edgedistill.formats.coreml.reference import interpreter
from edgedistill.formats.coreml.reference.images import grid_points
from edgedistill.formats.coreml.reference.interpreter import Interpreter, run
from edgedistill.networks.build import build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.program import to_program

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

CONTRACT = make_contract(DataConfig(), tuple("abcdefghij"), 16, (120.0,) * 3, (60.0,) * 3)


def smooth_images(count: int, seed: int = 0) -> np.ndarray:
    """Colour fields of a few patches each, uint8 [count, 3, 16, 16]."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), np.uint8)
    return patches.repeat(4, axis=2).repeat(4, axis=3)


def student(family: str) -> nn.Module:
    """A deployed student whose batch norms have seen something."""
    torch.manual_seed(0)
    module = build_student(StudentSpec(family=family, width=0.25, depth=0.5, resolution=16), CONTRACT).train()
    for seed in range(3):
        module(torch.from_numpy(smooth_images(16, seed)).float())
    return deploy(module.eval())


def torch_logits(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module(torch.from_numpy(images).float()).numpy()


def package_logits(path: Path, images: np.ndarray) -> np.ndarray:
    package = Interpreter(read_package(path))
    return np.concatenate([package.run({"image": image[None]})["logits"] for image in images])


@pytest.mark.parametrize("family", ["mobilenetv4", "mobileone", "resnet"])
@pytest.mark.parametrize(("precision", "tolerance"), [(Precision.FP32, 1e-5), (Precision.FP16, 2e-2)])
def test_a_student_computes_what_torch_computes(
    family: str, precision: Precision, tolerance: float, tmp_path: Path
) -> None:
    module, images = student(family), smooth_images(4, seed=9)
    path = tmp_path / "m.mlpackage"
    export_coreml(to_program(module, CONTRACT), CONTRACT, path, precision, build_hash="")
    wanted = torch_logits(module, images)
    got = package_logits(path, images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())
    if precision is Precision.FP16:
        assert np.abs(got - wanted).max() > 0, "half floats round somewhere"


def test_int8_rounds_where_the_program_says(tmp_path: Path) -> None:
    """Beside the fake-quantised torch program, which has the same scales: closer to it than to the float one."""
    module, images = student("resnet"), smooth_images(8, seed=9)
    path = tmp_path / "m.mlpackage"
    scheme = QuantScheme(precision=Precision.INT8, calibration_images=32)
    _, fake = quantize_coreml(module, smooth_images(32, 5), CONTRACT, scheme, path, build_hash="")
    got, quantised, plain = package_logits(path, images), torch_logits(fake, images), torch_logits(module, images)
    assert np.abs(got - quantised).max() < 0.1 * np.abs(quantised).max()
    assert np.abs(got - quantised).mean() < np.abs(got - plain).mean()
    assert (got.argmax(1) == quantised.argmax(1)).mean() >= 7 / 8


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "m.mlpackage"
    export_coreml(to_program(student("resnet"), CONTRACT), CONTRACT, path, Precision.FP16, build_hash="")
    return path


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input image is missing"),
        ({"image": np.zeros((1, 3, 8, 8))}, r"the input image is \[1, 3, 8, 8\], the package takes \[1, 3, 16, 16\]"),
        ({"image": np.zeros((1, 3, 16, 16)), "mask": np.zeros(1)}, "no input mask; it has image"),
    ],
)
def test_inputs_that_do_not_fit(package: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(package, inputs)


def test_an_operation_that_nothing_computes_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = interpreter.implementation_of
    monkeypatch.setattr(interpreter, "implementation_of", lambda name: None if name == "conv" else known(name))
    with pytest.raises(UnsupportedError) as caught:
        run(package, {"image": smooth_images(1)})
    assert [problem.where for problem in caught.value.problems] == ["conv"]


@pytest.mark.parametrize("mode", ["kmeans", "uniform", "sparse", "linear"])
def test_compressed_weights_are_expanded(package: Path, mode: str, tmp_path: Path) -> None:
    """A compressed package gives what the same package gives once coremltools has written its weights out."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(package), skip_model_load=True)
    configs = {
        "kmeans": lambda: cto.palettize_weights(model, cto.OptimizationConfig(
            cto.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=64))),
        "uniform": lambda: cto.palettize_weights(model, cto.OptimizationConfig(
            cto.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=64))),
        "sparse": lambda: cto.prune_weights(model, cto.OptimizationConfig(
            cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=64))),
        "linear": lambda: cto.linear_quantize_weights(model, cto.OptimizationConfig(
            cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=64))),
    }  # fmt: skip
    compressed = configs[mode]()
    compressed.save(str(tmp_path / "c.mlpackage"))
    kinds = read_package(tmp_path / "c.mlpackage").operations
    assert any(name.startswith("constexpr_") for name in kinds), kinds
    cto.decompress_weights(compressed).save(str(tmp_path / "d.mlpackage"))
    image = {"image": smooth_images(1, seed=3)}
    got, wanted = run(tmp_path / "c.mlpackage", image)["logits"], run(tmp_path / "d.mlpackage", image)["logits"]
    np.testing.assert_allclose(got, wanted, atol=1e-3 * np.abs(wanted).max())
    assert np.abs(got - run(package, image)["logits"]).max() > 0


@settings(max_examples=50)
@given(size=st.integers(1, 20), count=st.integers(2, 40), align=st.booleans())
def test_grid_points_are_those_of_torch(size: int, count: int, align: bool) -> None:
    ramp = torch.arange(size, dtype=torch.float64).reshape(1, 1, 1, size)
    wanted = F.interpolate(ramp, (1, count), mode="bilinear", align_corners=align)[0, 0, 0].numpy()
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
    np.testing.assert_allclose(grid_points(mode, size, count), wanted, atol=1e-9)


def test_the_contract_is_one_that_packages_take() -> None:
    assert isinstance(CONTRACT, Contract)

"""Conversion to Core ML and its quantisation, on modules of one operation."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedistill.base.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.base.quiet import quiet
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.coreml import export as export_module
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.coreml.quantize import coreml_quantizer, quantize_coreml
from edgedistill.formats.coreml.reference import run
from edgedistill.networks.program.program import to_program
from edgedistill.networks.rounding.pt2e import fake_quantize

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

SIDE, CLASSES = 16, 5
CONTRACT = Contract(resolution=SIDE, mean=(0, 0, 0), std=(255, 255, 255), labels=tuple("abcde"))
INT8 = QuantScheme(precision=Precision.INT8, calibration_images=8)


class Lone(nn.Module):
    """A contract-keeping module around one operation."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, image: Tensor) -> Tensor:
        return self.operation(image / 255)[:, :CLASSES, 0, 0]


def smooth_images(count: int, seed: int) -> np.ndarray:
    """Colour fields of a few patches each, uint8 [count, 3, SIDE, SIDE]."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), np.uint8)
    return patches.repeat(SIDE // 4, axis=2).repeat(SIDE // 4, axis=3)


def test_an_operation_without_counterpart_is_named(tmp_path: Path) -> None:
    module = Lone(lambda x: torch.special.i0(torch.cat([x, x], 1))).eval()
    with pytest.raises(UnsupportedError, match="special_i0"):
        export_coreml(to_program(module, CONTRACT), CONTRACT, tmp_path / "m.mlpackage", Precision.FP16, build_hash="")
    assert list(tmp_path.iterdir()) == []


def test_slices_of_whole_tensors_convert(tmp_path: Path) -> None:
    module = Lone(lambda x: torch.cat([x, x], 1)[:, :6]).eval()
    model = export_coreml(
        to_program(module, CONTRACT), CONTRACT, tmp_path / "m.mlpackage", Precision.FP32, build_hash=""
    )
    assert model.path.is_dir()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: torch.addcmul(x, x, x + 1, value=0.5),
        lambda x: torch.add(x, x * x, alpha=3),
        lambda x: torch.sub(x, 2, alpha=3),
        lambda x: torch.rsub(x, x * x, alpha=3),
    ],
    ids=["addcmul", "add", "sub", "rsub"],
)
def test_operations_that_coremltools_lacks_or_misreads_give_the_same_values(operation, tmp_path: Path) -> None:
    module = Lone(lambda x: operation(torch.cat([x, x], 1))).eval()
    path = tmp_path / "m.mlpackage"
    export_coreml(to_program(module, CONTRACT), CONTRACT, path, Precision.FP32, build_hash="")
    images = smooth_images(1, seed=1)
    got = run(path, {"image": images})["logits"]
    assert np.allclose(got, module(torch.from_numpy(images).float()).numpy(), atol=1e-5)


def test_conversion_is_silent_and_restores_what_it_silenced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = Lone(nn.Conv2d(3, CLASSES, 3)).eval()
    quantize_coreml(module, smooth_images(8, seed=4), CONTRACT, INT8, tmp_path / "m.mlpackage", build_hash="")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    from tqdm import tqdm

    with quiet():
        assert tqdm([]).disable
    assert not tqdm([]).disable
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("audible", stacklevel=1)
    assert len(caught) == 1


def test_without_coremltools_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        export_module.import_coremltools()


def test_integers_ask_for_images_and_for_the_right_function(tmp_path: Path) -> None:
    student = Lone(nn.Conv2d(3, CLASSES, 3)).eval()
    with pytest.raises(InputError, match="calibration"):
        quantize_coreml(student, smooth_images(0, 0), CONTRACT, INT8, tmp_path / "m.mlpackage", build_hash="")
    program = to_program(student, CONTRACT)
    for precision in set(Precision) - {Precision.FP32, Precision.FP16}:
        with pytest.raises(UnsupportedError, match="fp32 and fp16"):
            export_coreml(program, CONTRACT, tmp_path / "m.mlpackage", precision, build_hash="")


@settings(max_examples=10)
@given(scale=st.floats(1e-2, 1e2), bias=st.floats(-3, 3), count=st.integers(1, 5), seed=st.integers(0, 2**32))
# A channel with weights so small that their step is the floor of a scale.
@example(scale=0.01, bias=0.0, count=1, seed=15)
def test_quantisation_error_of_one_layer_stays_within_its_steps(
    scale: float, bias: float, count: int, seed: int
) -> None:
    """A 1x1 convolution: error at most half an input step times the sum of weights, plus half a weight step a tap times the
    input. Inputs are within the calibrated range."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.fill_(bias)
    module = nn.Sequential(layer).eval()
    images = smooth_images(count, seed=5)
    x = torch.from_numpy(images).float()
    with torch.no_grad():
        error = (fake_quantize(module, images, coreml_quantizer())(x) - module(x)).abs().amax((0, 2, 3))
        largest = float(x.max())
        weight = layer.weight.abs().flatten(1)
        # Histogram observers may clip the top of the range for less mean error: allow them 2% of it.
        # No step is below 2^-14, the smallest normal number of fp16, in which Core ML keeps scales.
        step = (weight.amax(1) / 127).clamp(min=2**-14)
        limit = weight.sum(1) * (largest / 127.5 / 2 + 0.02 * largest) + 3 * step / 2 * largest
    assert bool((error <= limit * 1.001 + 1e-4).all())

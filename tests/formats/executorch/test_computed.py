"""What an ExecuTorch program computes is what its torch module does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from barred_images import BUILD, CLASSES, CONTRACT, SIDE
from executorch_students import CALIBRATION, CAST, IMAGES, PHONE, Built, logits
from torch import Tensor, nn

from edgedistill.documents.specs import Precision, QuantScheme, StudentSpec
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.program import read_pte
from edgedistill.formats.executorch.quantize import quantize_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat
from edgedistill.networks.build import Normalised, build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.program import reference_logits, to_program

pytest.importorskip("executorch", reason="the extra executorch is not installed")


@pytest.mark.parametrize(
    ("precision", "allowed", "agreement"),
    [
        (Precision.FP32, 1e-5, 1.0),
        (Precision.FP16, 1e-2, 1.0),
        (Precision.INT8, 0.2, 0.95),
        (Precision.MIXED, 0.2, 0.95),
        (Precision.INT8_WEIGHTS, 0.2, 0.95),
    ],
)
def test_a_file_follows_the_torch_module(
    student: nn.Module, built: Built, precision: Precision, allowed: float, agreement: float
) -> None:
    wanted, got = reference_logits(student, IMAGES), logits(built.artifacts[precision])
    assert got.dtype == np.float32 and got.shape == (len(IMAGES), CLASSES)
    assert len(set(wanted.argmax(1).tolist())) == CLASSES  # else agreement would mean nothing
    assert np.abs(got - wanted).max() < allowed * np.abs(wanted).max()
    assert (got.argmax(1) == wanted.argmax(1)).mean() >= agreement
    if precision is not Precision.FP32:
        assert np.abs(got - wanted).max() > 0


@pytest.mark.parametrize(
    "spec",
    [
        StudentSpec(family="resnet", width=0.25, depth=0.34, resolution=SIDE),
        StudentSpec(family="mobilenetv4", width=0.35, depth=0.34, resolution=SIDE),
        StudentSpec(family="mobileone", width=0.25, depth=0.2, resolution=SIDE),
    ],
    ids=lambda spec: spec.family,
)
def test_each_family_runs_whole_in_the_delegate(spec: StudentSpec, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = build_student(spec, CONTRACT)
    with torch.no_grad():
        for start in range(0, 32, 16):
            module(torch.from_numpy(CALIBRATION[start : start + 16]).float())  # statistics of its own
    deployed = deploy(module)
    model = export_executorch(
        to_program(deployed, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD
    )
    artifact = ExecuTorchFormat().compile(model, PHONE, tmp_path / "compiled")
    wanted = reference_logits(deployed, IMAGES[:8])
    np.testing.assert_allclose(logits(artifact, IMAGES[:8]), wanted, atol=1e-5 * np.abs(wanted).max(), rtol=1e-4)
    assert artifact.record["delegates"] == "XnnpackBackend 1"
    assert artifact.record["portable_operators"] == f"{CAST} 1"


def test_a_transformer_leaves_only_its_norms_outside(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIDE, patch_size=8, depth=1, embed_dim=48, num_heads=3, num_classes=CLASSES
    )
    module = Normalised(network, CONTRACT.mean, CONTRACT.std).eval()
    program = to_program(module, CONTRACT)
    artifacts = {}
    for precision in (Precision.FP32, Precision.INT4_WEIGHTS):
        path = tmp_path / f"{precision}.pte"
        model = (
            export_executorch(program, CONTRACT, path, precision, build_hash=BUILD)
            if precision is Precision.FP32
            else quantize_executorch(
                module, CALIBRATION[:0], CONTRACT, QuantScheme(precision=precision), path, build_hash=BUILD
            )
        )
        artifacts[precision] = ExecuTorchFormat().compile(model, PHONE, tmp_path / "compiled")
    wanted = reference_logits(module, IMAGES[:8])
    full, small = artifacts[Precision.FP32], artifacts[Precision.INT4_WEIGHTS]
    assert np.abs(logits(full, IMAGES[:8]) - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert full.record["portable_operators"] == f"aten::native_layer_norm.out 3, {CAST} 1"
    assert small.bytes < 0.5 * full.bytes
    (part, *_) = [p for p in read_pte(small.path).forward.delegates if "qcint4" in p.xnnpack.datatypes]  # type: ignore
    assert part.xnnpack.nodes["fully_connected"] == 1  # type: ignore[union-attr]


class Talking(nn.Module):
    """A softmax between convolutions, as attention with mixed heads has it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.after((self.before(image / 64)).softmax(-1)).amax((2, 3))
        return logits


def test_a_softmax_between_convolutions_is_over_the_right_dimension(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Talking().eval()
    model = export_executorch(
        to_program(module, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD
    )
    artifact = ExecuTorchFormat().compile(model, PHONE, tmp_path / "compiled")
    assert artifact.record["delegates"] == "XnnpackBackend 1"
    np.testing.assert_allclose(logits(artifact, IMAGES[:4]), reference_logits(module, IMAGES[:4]), atol=1e-5)

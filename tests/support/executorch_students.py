"""A trained student, its images and its ExecuTorch files, for the tests in tests/formats/executorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from barred_images import BUILD, CLASSES, CONTRACT, barred_images, taught
from torch import Tensor, nn

from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel
from edgedistill.documents.specs import Format, Precision, QuantScheme, Target
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.quantize import quantize_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat
from edgedistill.networks.build import Normalised
from edgedistill.networks.program.program import to_program

PHONE = Target(
    name="pixel",
    title="Pixel",
    runtime=Format.EXECUTORCH,
    formats=(Format.EXECUTORCH,),
    precisions=tuple(Precision),
    transport="local",
)
CAST = "dim_order_ops::_to_dim_order_copy.out"
KEPT = ("network.middle.0", "network.head")


class Small(nn.Module):
    """A few of the operations that students are made of, small enough to be lowered in a second or two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.branch = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.stem(x))
        logits: Tensor = self.head((x + self.branch(x)).mean((2, 3)))
        return logits


IMAGES, CALIBRATION = barred_images(64, seed=6), barred_images(32, seed=4)


def train_student() -> nn.Module:
    """Trained a little, so that its batch norms have statistics of their own and its logits mean something."""
    torch.manual_seed(0)
    module = taught(Normalised(Small(), CONTRACT.mean, CONTRACT.std), 64, 5e-3)
    return module.eval().requires_grad_(False)


@dataclass(frozen=True)
class Built:
    """The files of one student, by precision."""

    models: dict[Precision, ExportedModel]
    artifacts: dict[Precision, CompiledArtifact]


def build_files(student: nn.Module, folder: Path) -> Built:
    """Its programs in each precision, as exported and as compiled for `PHONE`."""
    program = to_program(student, CONTRACT)
    models = {
        precision: export_executorch(program, CONTRACT, folder / f"{precision}.pte", precision, build_hash=BUILD)
        for precision in (Precision.FP32, Precision.FP16)
    }
    for precision in (Precision.INT8, Precision.MIXED, Precision.INT8_WEIGHTS):
        models[precision] = quantize_executorch(
            student,
            CALIBRATION,
            CONTRACT,
            QuantScheme(precision=precision, kept=KEPT if precision is Precision.MIXED else ()),
            folder / f"{precision}.pte",
            build_hash=BUILD,
        )
    runtime = ExecuTorchFormat()
    artifacts = {p: runtime.compile(model, PHONE, folder / "compiled") for p, model in models.items()}
    return Built(models, artifacts)


def logits(artifact: CompiledArtifact, images: np.ndarray = IMAGES) -> np.ndarray:
    """What the file computes: float32 [images, CLASSES]."""
    return np.concatenate(list(ExecuTorchFormat().run(artifact, [images])))

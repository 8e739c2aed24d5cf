"""A trained student, its images and its ExecuTorch files, for the tests in tests/runtime/executorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.artifacts import CompiledArtifact, ExportedModel
from edgedistill.exporters.executorch import export_executorch
from edgedistill.exporters.program import to_program
from edgedistill.quantizers.executorch import quantize_executorch
from edgedistill.runtimes.executorch import ExecuTorchRuntime
from edgedistill.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.students.build import Normalised

SIDE, CLASSES = 32, 5
BUILD = "b" * 64
CONTRACT = Contract(
    resolution=SIDE,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    labels=("apple", "pear", "quince", "sloe", "prunelle à épines"),
)
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


def labelled_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of `CLASSES` kinds (a bright bar at one of as many heights, on structured ground), 0..255, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1) * 127
    for image, label in zip(images, labels, strict=True):
        top = 1 + 6 * int(label)
        image[:, top : top + 4] += 120
    return images.clamp(0, 255).round(), labels


IMAGES = labelled_images(64, seed=6)[0].to(torch.uint8).numpy()
CALIBRATION = labelled_images(32, seed=4)[0].to(torch.uint8).numpy()


def train_student() -> nn.Module:
    """Trained a little, so that its batch norms have statistics of their own and its logits mean something."""
    torch.manual_seed(0)
    module = Normalised(Small(), CONTRACT.mean, CONTRACT.std)
    images, labels = labelled_images(256, seed=4)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for step in range(64):
        batch = slice(step % 8 * 32, step % 8 * 32 + 32)
        loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
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
    runtime = ExecuTorchRuntime()
    artifacts = {p: runtime.compile(model, PHONE, folder / "compiled") for p, model in models.items()}
    return Built(models, artifacts)


def logits(artifact: CompiledArtifact, images: np.ndarray = IMAGES) -> np.ndarray:
    """What the file computes: float32 [images, CLASSES]."""
    return np.concatenate(list(ExecuTorchRuntime().run(artifact, [images])))

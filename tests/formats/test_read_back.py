"""Whatever export writes, the commands on single files read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgedistill
from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.commands.export_files import Exporting, ExportMaker, probes_of
from edgedistill.documents.answers import ExportedFile
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.bench import Source

CONTRACT = Contract(resolution=32, mean=(0, 0, 0), std=(255, 255, 255), labels=tuple("abcde"))
MADE = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT8_WEIGHTS)
PACKAGES = {
    Format.ONNX: "onnxruntime",
    Format.COREML: "coremltools",
    Format.TENSORRT: "tensorrt_rtx",
    Format.LITERT: "litert_torch",
    Format.EXECUTORCH: "executorch",
}


class Mixed(nn.Module):
    """Layers of every kind that a quantiser takes, and a product with a bare parameter, which not all of them take."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 64, 4, 4), nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.point, self.norm = nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)
        self.weigh = nn.Parameter(torch.randn(64, 1))
        self.inner, self.token_norm, self.head = nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 5)

    def forward(self, image: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.point(self.deep(self.stem(image / 255)))))
        tokens = maps.flatten(2).transpose(1, 2)
        weights = torch.softmax(tokens @ self.weigh, dim=1)
        pooled = (tokens * weights).sum(1)
        return self.head(self.token_norm(nn.functional.gelu(self.inner(pooled))))


SLOW = (Format.EXECUTORCH, Format.LITERT)


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.slow) if form in SLOW else form for form in PACKAGES]
)
def test_every_precision_of_a_format_is_read_back_as_what_it_is(form: Format, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[form])
    torch.manual_seed(0)
    module = Mixed().eval()
    source = Source("mixed", "mixed", CONTRACT, lambda: module)
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), np.uint8)
    made = [p for p in MADE if form is not Format.TENSORRT or p is not Precision.INT8_WEIGHTS]
    target = load_target("host").model_copy(update={"formats": (form,), "machine": "x86_64"})
    maker = ExportMaker(
        target=target, store=Store(tmp_path / "store"), images=lambda contract: images, contract=CONTRACT
    )
    exporting = Exporting(maker, source, CONTRACT, probes_of(source), tmp_path)
    for precision in made:
        file = exporting.one(form, precision, silent)
        assert isinstance(file, ExportedFile)
        seen = edgedistill.inspect(tmp_path / file.path)
        assert (seen.precision, seen.sha256) == (file.precision, file.sha256)
        total = sum(layer.parameters for layer in seen.layers)
        assert 3 * 64 * 16 + 64 * 9 + 2 * 64 * 64 + 5 * 64 <= total <= 3 * 64 * 16 + 64 * 9 + 2 * 64 * 64 + 5 * 64 + 64
        if file.precision is Precision.INT8:
            assert Counter(layer.arithmetic for layer in seen.layers)["int8"] >= 5, seen.layers
        assert edgedistill.verify(tmp_path / file.path).ok

"""The small models that `edgedistill devices check` runs on a device, one of each format that the agent loads.

python benchmarks/device_samples.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import edgedistill
from edgedistill.base.store import copy_atomic
from edgedistill.formats import format_for, measured_by_agent


def network() -> nn.Module:
    """A convolution and a classifier of two classes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def main() -> None:
    """Export it, for inputs of 32 pixels, to where each format keeps its sample."""
    with tempfile.TemporaryDirectory() as folder:
        result = edgedistill.export(
            "device_samples:network",
            out=folder,
            formats=",".join(measured_by_agent()),
            classes=2,
            resolution=32,
            mean="0.5,0.5,0.5",
            std="0.5,0.5,0.5",
        )
        for file in result.files:
            place = format_for(file.format).sample
            assert place is not None
            copy_atomic(Path(folder) / file.path, place)
            print(f"{place.name}: {file.bytes} bytes")


if __name__ == "__main__":
    main()

"""A small package of real model files, made without a build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from factories import make_manifest
from torch import nn

from edgedistill.documents.measurements import UnknownLatency
from edgedistill.documents.package import About, ManifestArtifact
from edgedistill.documents.specs import Contract, Precision, Probabilities
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.foreign import open_file
from edgedistill.formats.format import ModelMetadata
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.running import run_all
from edgedistill.networks.program.program import to_program
from edgedistill.outputs.package.golden import (
    Golden,
    GoldenRun,
    golden_pictures,
    nudged,
    prepared_pictures,
    tolerance_of,
)
from edgedistill.outputs.package.package import PackageContents, PackageFile, write_package

CONTRACT = Contract(
    resolution=16, mean=(128.0,) * 3, std=(64.0,) * 3, labels=("ant", "bee", "cat", "dog"), background=(240, 240, 240)
)

ABOUT = About(
    name="insects",
    description="It tells an insect from a pet.",
    author="Ann Other",
    license="apache-2.0",
    version="1.2",
)
TEMPERATURE, NONE_BELOW = 2.0, 0.3
PROBABILITIES = Probabilities(temperature=TEMPERATURE, none_below=NONE_BELOW)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8 * 64, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(torch.relu(self.stem(image / 64 - 2)).flatten(1))
        return found


def small_package(folder: Path, *, coreml: bool = True, contract: Contract = CONTRACT, seed: int = 0) -> Path:
    """The package `folder/package`, of an ONNX file and, where asked for, a Core ML one."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        program = to_program(Network().eval(), contract)
    made = [export_onnx(program, contract, folder / "student-fp32.onnx", build_hash="b")]
    if coreml:
        path = folder / "student-fp16.mlpackage"
        made.append(export_coreml(program, contract, path, Precision.FP16, build_hash="b"))
    rng = np.random.default_rng(0)
    pictures = golden_pictures(rng.integers(0, 256, (3, 45, 33, 3), dtype=np.uint8), contract)
    images = prepared_pictures(pictures, contract)
    files, runs, artifacts = [], {}, {}
    told = folder / "told"
    told.mkdir()
    for model in made:
        measured, form = open_file(model.path, load_target("host")).artifact, format_for(model.format)
        artifact = form.with_metadata(measured, ModelMetadata(ABOUT, contract, PROBABILITIES), told)
        found = run_all(form, artifact, np.concatenate([images, nudged(images)]), classes=None)
        own = found[: len(images)]
        precision = artifact.scheme.precision
        files.append(
            PackageFile(
                model.format,
                precision,
                artifact.path,
                artifact.path.name,
                model.inputs,
                model.outputs,
                probabilities=PROBABILITIES,
            )
        )
        runs[model.path.name] = GoldenRun(form.computed_by, own, tolerance_of(own, found[len(images) :]))
        unknown = UnknownLatency(reason="not measured", device="host")
        size, digest = artifact.bytes, artifact.sha256
        artifacts[model.path.name] = ManifestArtifact(
            sha256=digest, measured_sha256=measured.sha256, bytes=size, quality=None, latency=unknown
        )
    manifest = make_manifest(artifacts=artifacts, about=ABOUT)
    write_package(folder, PackageContents(tuple(files), contract, Golden(pictures, runs), manifest, "# card\n"))
    return folder / "package"

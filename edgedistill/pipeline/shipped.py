"""The winner's files as they ship: with `[package]` in their metadata, and the temperature of probabilities.

A file computes the same with them as when it was measured and proven: its outputs are compared before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.store import stage_key
from edgedistill.documents.artifacts import CompiledArtifact, Verified
from edgedistill.documents.specs import ComputedBy, Probabilities
from edgedistill.formats import format_for
from edgedistill.formats.format import ModelMetadata
from edgedistill.formats.running import REFERENCE_IMAGES, run_all
from edgedistill.networks.confidence import none_below, probabilities
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.make import load_made, save_made
from edgedistill.pipeline.ship import Files, Made
from edgedistill.pipeline.workbench import Workbench

_COMPARED: Final = 8
"""So many validation images are run through a file before and after."""
_FILE: Final = "artifact.json"


@dataclass(frozen=True)
class Shipped:
    """A file as it ships. `measured` is the artifact that was measured, `made` the one in the package; `probabilities` are
    None where they are not known."""

    made: Made
    measured: CompiledArtifact
    probabilities: Probabilities | None

    @property
    def artifact(self) -> CompiledArtifact:
        return self.made.artifact


def as_shipped(bench: Workbench, source: Source, files: Files) -> tuple[Shipped, ...]:
    """The files as they ship, in their order."""
    return tuple(_shipped(bench, source, made) for made in files.made)


def _shipped(bench: Workbench, source: Source, made: Made) -> Shipped:
    found = _probabilities(bench, source, made)
    artifact = _with_metadata(bench, source, made, ModelMetadata(bench.config.package.about, source.contract, found))
    result = made.result.model_copy(update={"artifact": artifact})
    return Shipped(replace(made, result=result), made.artifact, found)


def _probabilities(bench: Workbench, source: Source, made: Made) -> Probabilities | None:
    """As they were found on the validation split."""
    verification, lost = made.result.verification, bench.config.package.none_of_these
    temperature = verification.temperature if isinstance(verification, Verified) else None
    if temperature is None:
        return None
    least = None if lost is None else _none_below(bench, source, made.artifact, temperature, lost)
    return Probabilities(temperature=temperature, none_below=least)


def _with_metadata(bench: Workbench, source: Source, made: Made, metadata: ModelMetadata) -> CompiledArtifact:
    """The artifact with this metadata, itself where its format has no place for that. Raises RuntimeError where it computes
    anything else than before."""
    measured, form = made.artifact, format_for(made.artifact.format)
    if not form.has_metadata:
        return measured
    inputs = {
        "artifact": measured.sha256,
        "name": measured.path.name,
        "metadata": metadata.entries,
        "contract": source.contract.model_dump(mode="json"),
    }
    key = stage_key(inputs, code=code.compiling(measured.format), tools=form.tools)

    def make(folder: Path) -> None:
        artifact = form.with_metadata(measured, metadata, folder)
        if isinstance(made.result.verification, Verified):
            images = bench.images("validation", source.contract)[:_COMPARED]
            before, after = (run_all(form, one, images, classes=None) for one in (measured, artifact))
            if not np.array_equal(before, after):
                raise RuntimeError(f"{measured.path.name} computes something else with its metadata than without")
        save_made(artifact, folder / _FILE)

    folder = bench.store.stage(
        "metadata", key, make, subject=f"{source.label} {measured.format} {measured.scheme.label}"
    )
    return load_made(CompiledArtifact, folder / _FILE)


def _none_below(bench: Workbench, source: Source, artifact: CompiledArtifact, temperature: float, lost: float) -> float:
    """The probability below which such a share of the right answers to the validation split lies."""
    form = format_for(artifact.format)
    most = REFERENCE_IMAGES if form.computed_by is ComputedBy.REFERENCE else None
    images, labels = bench.images("validation", source.contract)[:most], bench.labels("validation")[:most]
    shares = probabilities(run_all(form, artifact, images, classes=None), temperature)
    return none_below(shares.max(axis=1), shares.argmax(axis=1) == labels, lost)

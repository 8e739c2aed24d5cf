"""The golden data of a package: pictures of the validation split, and what each file gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from edgedistill.base.arrays import Images
from edgedistill.documents.artifacts import CompiledArtifact, Verified
from edgedistill.formats import format_for
from edgedistill.formats.running import run_all
from edgedistill.outputs.package.golden import (
    Golden,
    GoldenRun,
    golden_pictures,
    nudged,
    prepared_pictures,
    tolerance_of,
)
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.shipped import Shipped

IMAGES: Final = 8


def golden_of(bench: Bench, source: Source, made: Mapping[str, Shipped]) -> Golden:
    """Pictures, and what each of `made` (by its name in the package) that can be run gives for them."""
    contract = source.contract
    chosen = bench.dataset.splits.validation[:IMAGES]
    pictures = golden_pictures((bench.dataset.images[int(index)] for index in chosen), contract)
    images = prepared_pictures(pictures, contract)
    both = np.concatenate([images, nudged(images)])
    ran = {name: one.artifact for name, one in made.items() if isinstance(one.made.result.verification, Verified)}
    return Golden(pictures, {name: _run(artifact, both, len(images)) for name, artifact in ran.items()})


def _run(artifact: CompiledArtifact, images: Images, count: int) -> GoldenRun:
    """What a file gives for the first `count` of `images`, and how far its outputs for their nudged copies, the others, lie
    from that."""
    form = format_for(artifact.format)
    found = run_all(form, artifact, images, classes=None)
    return GoldenRun(form.computed_by, found[:count], tolerance_of(found[:count], found[count:]))

"""The golden data of a package: pictures of the validation split, and what each file gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from edgedistill.base.arrays import Images
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.specs import ComputedBy
from edgedistill.formats import format_for
from edgedistill.formats.running import run_all
from edgedistill.outputs.package.golden import (
    Computed,
    Golden,
    GoldenRun,
    golden_pictures,
    nudged,
    prepared_pictures,
    rounding_of,
    tolerance_of,
)
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.ship import Made

IMAGES: Final = 8


def golden_of(bench: Bench, source: Source, made: Mapping[str, Made]) -> Golden:
    """Pictures, and what each of `made` (by its name in the package) gives for them."""
    contract = source.contract
    chosen = bench.dataset.splits.validation[:IMAGES]
    pictures = golden_pictures((bench.dataset.images[int(index)] for index in chosen), contract)
    images = prepared_pictures(pictures, contract)
    both = np.concatenate([images, nudged(images)])
    return Golden(pictures, {name: _run(bench, source, one, both, len(images)) for name, one in made.items()})


def _run(bench: Bench, source: Source, made: Made, images: Images, count: int) -> GoldenRun:
    """What a file gives for the first `count` of `images`, and how far its outputs for their nudged copies, the others, lie
    from that."""
    form = format_for(made.artifact.format)
    of: Computed = "program"
    if isinstance(made.result.verification, Verified):
        of = "interpreter" if form.computed_by is ComputedBy.REFERENCE else "runtime"
        found = run_all(form, made.artifact, images, classes=None)
    else:
        found = bench.computed(source, images)
    outputs = found[:count]
    tolerance = tolerance_of(outputs, found[count:])
    if of == "program":
        tolerance += rounding_of(made.artifact.scheme.precision, outputs)
    return GoldenRun(of, outputs, tolerance)

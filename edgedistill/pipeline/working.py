"""The working copies of a build's training images: made once, and found by every process that shows views."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from edgedistill.base.store import stage_key
from edgedistill.data.datasets import Dataset
from edgedistill.data.working import STAGE, CopyMaker, WorkingImages
from edgedistill.devices.turns import training
from edgedistill.pipeline import code
from edgedistill.pipeline.workbench import Workbench


def keep_copies(bench: Workbench) -> None:
    """Make the working copies, unless they are there, the images need none, or the build file keeps none. Not while
    something is measured on this machine. Raises InputError for an image that can no longer be read."""
    side, limit_bytes = bench.working_side, bench.data.decoded_cache
    if side is None or not limit_bytes:
        return
    plain = WorkingImages(bench.dataset.images, bench.dataset.splits.train, side, None)
    turn = partial(training, bench.store.listener)
    CopyMaker(bench.store, _key(bench, side), plain, bench.dataset.name, turn).make(limit_bytes)


def viewed(bench: Workbench, dataset: Dataset, side: int | None) -> Dataset:
    """`dataset`, the bench's own or a part of it, with training images as views show them: as working copies of `side`, the
    kept ones where there are any."""
    if side is None:
        return dataset
    folder = bench.store.find(STAGE, _key(bench, side))
    return replace(dataset, images=WorkingImages(bench.dataset.images, bench.dataset.splits.train, side, folder))


def _key(bench: Workbench, side: int) -> str:
    return stage_key({"data": bench.data_key, "side": side}, code=code.COPIES, tools=("numpy", "pillow"))

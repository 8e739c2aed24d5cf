"""What vectors are held against where they are not judged by labels: the teacher's, of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.store import digest, stage_key
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.networks.tasks import unit
from edgedistill.pipeline import code
from edgedistill.pipeline.ensemble import given_weights
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.teacher_outputs import split_outputs
from edgedistill.pipeline.workbench import Workbench

STAGE: Final = "truth"
FILE: Final = "vectors.npy"


def hold_against_teacher(bench: Workbench, split: str) -> None:
    """For the score `neighbours`, let the answers to a split be held against what students learn: the teacher's vectors of
    its images as they are, float32 [n, D] of length 1, of several teachers their mean. Found, or asked for; nothing is done
    for another score."""
    if not bench.task.by_teacher or split in bench.vectors:
        return
    benches = (bench, *bench.others)
    teachers = [open_teacher(one) for one in benches]
    weights = given_weights(bench.config.ensemble.weights, len(teachers))
    indices = getattr(bench.dataset.splits, split)
    key = stage_key(
        {
            "teachers": [teacher.key for teacher in teachers],
            "weights": weights,
            "data": [bench.dataset.fingerprint, digest(indices.tolist())],
        },
        code=code.ENSEMBLE,
        tools=TRAINING_TOOLS,
    )

    def make(folder: Path) -> None:
        with training(bench.store.listener):
            said = [split_outputs(one, teacher, split) for one, teacher in zip(benches, teachers, strict=True)]
        together = sum(weight * unit(rows) for weight, rows in zip(weights, said, strict=True))
        np.save(folder / FILE, unit(np.asarray(together)))

    bench.vectors[split] = bench.store.stage(STAGE, key, make, subject=f"the {split} split") / FILE

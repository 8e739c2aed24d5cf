"""In which order the trials of one rung go on to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.documents.specs import Objective
from edgedistill.selection.quality import QualityModel
from edgedistill.selection.running_trial import RunningTrial


def ranked(
    pool: Sequence[RunningTrial], quality_model: QualityModel | None, objective: Objective
) -> list[RunningTrial]:
    """Trials at one rung in the order in which they go on: those that the quality model expects to end best. While
    there is none, families in turn and the most accurate of each, since an early rung tells little between families:
    some learn late. Where the fastest is wanted, the best and the smallest in turn: the ones tell whether the quality
    can be had, the others how little does."""
    promising = _by_promise(pool, quality_model)
    if objective is Objective.QUALITY:
        return promising
    small = sorted(pool, key=lambda c: (c.proposal.candidate.multiply_adds, -c.quality))
    return list(dict.fromkeys(c for pair in zip(promising, small, strict=True) for c in pair))


def _by_promise(pool: Sequence[RunningTrial], quality_model: QualityModel | None) -> list[RunningTrial]:
    accurate = sorted(pool, key=lambda c: (-c.quality, c.proposal.candidate.multiply_adds))
    if quality_model is not None and accurate:
        expected, _ = quality_model.predict([c.proposal.candidate for c in accurate])
        return [accurate[place] for place in np.argsort(-expected, kind="stable")]
    families = [running_trial.proposal.candidate.spec.family for running_trial in accurate]
    return sorted(accurate, key=lambda c: families[: accurate.index(c)].count(c.proposal.candidate.spec.family))

"""An assistant: a student of a size between the teacher's and the others', which learns from the teacher and then teaches.

A student that is much smaller than its teacher may learn more from one that is nearer to it (Mirzadeh et al. 2020,
https://arxiv.org/abs/1902.03393). Which size does best is found as by Han et al. 2024 (https://arxiv.org/abs/2407.04208):
several are tried for few epochs, and the one is taken that loses least for what it is smaller. Whether students learn more
from it than from the teacher is then tried on one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import Note
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.recipes import FEATURES, OUTPUTS
from edgedistill.documents.results import AssistantChoice, PilotRun
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.pilot import CLEAR, ahead, judged, trained_for
from edgedistill.pipeline.prepare import all_signals
from edgedistill.pipeline.student_as_teacher import bench_taught_by
from edgedistill.pipeline.workbench import Workbench

LARGE_GAP: Final = 30.0
"""The teacher's multiply-adds over a student's, from which on `auto` tries an assistant."""
TRIED: Final = 3
APART: Final = 2.0
"""An assistant has at least so many times the work of a student, and so many times less than the teacher."""


def assisted(
    bench: Workbench,
    stored: SplitStore,
    student: Candidate,
    candidates: Sequence[Candidate],
    teacher_multiply_adds: int,
    teacher_quality: float,
) -> tuple[SplitStore, AssistantChoice | None]:
    """What students learn from: what is `stored` of the teacher, or of an assistant where `student`, that of pilots, learns
    clearly more from it. None in place of a choice where no assistant was tried: none is wanted,
    the gap is small, or no candidate lies in it."""
    tried: list[tuple[float, StudentSpec, PilotRun]] = []
    for candidate in to_try(bench, student, candidates, teacher_multiply_adds):
        found = judged(bench, stored, candidate.spec, f"the assistant {candidate.spec.label}")
        if found is not None:
            lost = teacher_quality - found.run.quality_validation
            slope = lost / (1 - candidate.multiply_adds / teacher_multiply_adds)
            tried.append((slope, candidate.spec, found.run))
    if not tried:
        return stored, None
    _, chosen, _ = min(tried, key=lambda one: one[0])
    try:
        assistant = trained_for(bench, stored, chosen, bench.rungs[-1])
    except TrialFailure as failure:
        bench.store.listener(Note(f"the assistant {chosen.label}: {failure.message}", warning=True))
        return stored, None
    through = replace(stored, signals=all_signals(bench_taught_by(bench, assistant), stored.stored_views))
    direct = judged(bench, stored, student.spec, "learning from the teacher")
    helped = judged(bench, through, student.spec, f"learning from {chosen.label}")
    if direct is None or helped is None:
        return stored, None
    choice = AssistantChoice(
        assistant=chosen.label,
        quality_validation=assistant.quality_validation,
        tried=tuple(run for _, _, run in tried),
        direct=direct.run,
        through=helped.run,
        taken=ahead(helped.right, direct.right) > CLEAR,
    )
    bench.store.listener(Note(choice.sentence))
    return (through if choice.taken else stored), choice


def can_give(taps: Collection[str]) -> bool:
    """Whether an assistant has what students take of a teacher: a module of the teacher's by its path is none of its own."""
    return bool(taps) and {*taps} <= {*OUTPUTS, FEATURES}


def to_try(
    bench: Workbench, student: Candidate, candidates: Sequence[Candidate], teacher_multiply_adds: int
) -> list[Candidate]:
    """The candidates that are tried as assistants where `student` is that of pilots: none where none is wanted, or where the
    gap is small and the build file leaves it open."""
    wanted = bench.config.train.assistant
    if wanted is False or (wanted == "auto" and teacher_multiply_adds < LARGE_GAP * student.multiply_adds):
        return []
    return between(candidates, student.multiply_adds * APART, teacher_multiply_adds / APART)


def between(candidates: Sequence[Candidate], least: float, most: float) -> list[Candidate]:
    """Up to TRIED candidates with `least` to `most` multiply-adds, spread evenly by their logarithm, from small to large."""
    within = [candidate for candidate in candidates if least <= candidate.multiply_adds <= most]
    if not within:
        return []
    lowest, highest = (math.log(pick(c.multiply_adds for c in within)) for pick in (min, max))
    found: dict[str, Candidate] = {}
    for number in range(TRIED):
        wanted = lowest + (highest - lowest) * (number + 1) / (TRIED + 1)
        nearest = min(within, key=lambda c: (abs(math.log(c.multiply_adds) - wanted), c.spec.label))
        found[nearest.spec.label] = nearest
    return sorted(found.values(), key=lambda c: c.multiply_adds)
